"""Files that are sent as attachments: taken over the API, and served to Meta for a time."""
