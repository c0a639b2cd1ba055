"""Finds mistakes in a playbook or a lifecycle script without running it: rules, each a small function."""
