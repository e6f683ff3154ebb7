"""Image lists: the images that a file of any known kind names; pure."""
