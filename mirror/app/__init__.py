"""The daemon and its parts, built from the settings."""
