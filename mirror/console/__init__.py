"""The console: the page and its API, for operators and the curious."""
