"""The promises of the statistics."""
