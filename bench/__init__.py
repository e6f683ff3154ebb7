"""The benchmark: the mirror beside Debian's docker-registry, in front of the same stand-in hub.

`python -m bench` runs it; the result of the last full run is in `RESULT.md`.
"""
