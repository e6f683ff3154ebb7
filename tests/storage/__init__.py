"""Blob files, the index, the quota, and failing disks."""
