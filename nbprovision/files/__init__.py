"""Files, lines of text, commands, git and environment variables."""
