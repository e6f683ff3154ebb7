"""Policies: freshness of content, single fetches, the cost of pulls."""
