"""One registry out there: asking it, logging in to it, and what its answers say."""
