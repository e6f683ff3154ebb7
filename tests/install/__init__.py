"""Each way to install the mirror, as it is documented, on a machine of its own."""
