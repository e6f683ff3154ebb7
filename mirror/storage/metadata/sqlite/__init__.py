"""Metadata in SQLite: a file of the data folder."""
