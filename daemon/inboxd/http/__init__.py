"""The toolkit of both listeners: connections, request bodies, access control, operations and pages."""
