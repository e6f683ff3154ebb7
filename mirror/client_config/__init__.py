"""The configuration files of clients that pull through this mirror, one module for each client."""
