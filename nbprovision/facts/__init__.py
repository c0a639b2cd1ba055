"""What is there: every module here reads, none writes, none starts a process."""
