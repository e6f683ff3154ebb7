"""An operator's orders."""
