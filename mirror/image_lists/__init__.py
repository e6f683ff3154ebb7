"""Image lists: the images that a file names, whatever kind of file it is; pure."""
