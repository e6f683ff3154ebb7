"""The vocabulary of registries: names, digests, media types, errors, ranges. Pure, without I/O."""
