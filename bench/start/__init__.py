"""How long one waits at the beginning: for the set-up, for a command, and for the second pull.

`python -m bench.start` runs it; the result of the last full run is in `bench/START.md`.
"""
