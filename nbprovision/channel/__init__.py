"""A conda channel made on this machine: from its own interpreter and wheels from a Python package index."""
