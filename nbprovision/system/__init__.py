"""The only code that touches the machine: files, commands, processes, the log."""
