"""Bundles: one file with a playbook, its lock, every package of it and the tool, for machines without a network."""
