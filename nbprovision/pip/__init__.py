"""Python distributions in conda and virtual environments, and virtual environments."""
