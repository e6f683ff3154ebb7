"""The promises, one module each, kept against real parts."""
