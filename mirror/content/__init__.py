"""Pull-through content: fresh from the cache, or fetched once for all clients."""
