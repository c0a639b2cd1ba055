"""Files, lines of text, commands, git, variables: what is no package."""
