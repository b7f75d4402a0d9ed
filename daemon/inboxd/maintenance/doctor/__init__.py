"""`inboxd doctor`: checks of everything that the daemon needs, and what to do about what is wrong."""
