"""Facts about this machine for all subjects: platform, environments, their content, caches, network."""
