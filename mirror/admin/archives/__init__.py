"""OCI layouts as tar archives: written and read as they come, by commands and by the API."""
