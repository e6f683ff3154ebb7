"""Pull limits."""
