"""Image lists: which images a file names."""
