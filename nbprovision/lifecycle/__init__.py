"""The tool on a notebook instance: its own environment, and the script that starts it."""
