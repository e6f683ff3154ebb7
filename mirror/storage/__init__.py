"""Storage: blob files within a bound, and an index of them that can be lost."""
