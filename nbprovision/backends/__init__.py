"""One module a tool: each does what it is told, and none decides."""
