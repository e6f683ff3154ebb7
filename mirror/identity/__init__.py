"""The identity of a client: its address, and its name once it is authenticated."""
