"""The page in Debian's Chromium, as people see it."""
