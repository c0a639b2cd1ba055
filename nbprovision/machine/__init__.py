"""What is known of this machine, shared by all subjects: platform, environments, what lies in them, caches, network."""
