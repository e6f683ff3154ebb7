"""Pull limits: the pulls that are left, and the clients that may spend them."""
