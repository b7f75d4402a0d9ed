"""The frame of the dashboard's pages, and the overview."""
