"""Pull-through content: what is fresh, and what is fetched once for all clients."""
