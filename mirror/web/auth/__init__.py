"""Authentication of clients, and the limits on their requests."""
