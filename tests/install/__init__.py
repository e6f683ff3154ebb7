"""Each documented way to install the mirror, on a separate machine."""
