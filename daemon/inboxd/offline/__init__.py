"""What commands work with when no daemon runs, beside the way to the running one.

A module for each kind of command: a command imports no other's.
"""
