"""Access control: the repositories that a client may read."""
