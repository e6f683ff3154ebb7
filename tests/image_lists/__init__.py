"""The promises of image lists."""
