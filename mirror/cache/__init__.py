"""The decisions: what is fresh, what is fetched once for all, what a pull costs."""
