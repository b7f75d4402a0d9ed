"""The two HTTP listeners: public webhooks and the admin side."""
