"""Forwarding: hands what happens on to other systems. Each way to do so is a feature in a folder or file of its own."""
