"""Statistics: what requests and upstreams did, in memory for the page, and kept as a history."""
