"""The vocabulary: names, digests, manifests, lists."""
