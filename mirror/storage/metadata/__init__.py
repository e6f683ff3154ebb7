"""Metadata: the rows about stored content, tags, repositories and pulls, behind one protocol."""
