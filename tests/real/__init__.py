"""Real clients pull real images through a real mirror, all on loopback."""
