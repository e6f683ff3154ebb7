"""Real clients pull real images through a real mirror; all of it on loopback, and cleaned up."""
