"""One upstream registry: requests to it, logging in to it, and reading its responses."""
