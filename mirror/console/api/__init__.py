"""The API: the orders of the page and the commands, as JSON over HTTP."""
