"""Files, commands, processes, locks, the log, secrets: only this folder touches the operating system."""
