"""The mirror beside two registries while peers of theirs attack: what others wait for.

`python -m bench.attacks` measures; the result of the last full run is in `bench/ATTACKS.md`.
"""
