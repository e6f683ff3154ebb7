"""A pull-through caching mirror daemon for container registries."""

__version__ = "0.2.0"
