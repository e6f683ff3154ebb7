"""The daemon's start, reload and stop."""
