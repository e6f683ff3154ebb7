"""Clients newer than Debian's, built from their Go modules, pull through the mirror."""
