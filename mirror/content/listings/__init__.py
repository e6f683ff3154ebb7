"""Listings: the tags of a repository, and the referrers of a digest."""
