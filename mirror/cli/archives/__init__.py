"""OCI layouts as folders and as tar archives, read and written by the command's own process."""
