"""The toolkit of both listeners: connections, bodies, access, operations, pages."""
