"""The output of a run: on a terminal, as JSON, in files that others read."""
