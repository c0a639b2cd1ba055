"""What root sets up for the notebook's user: mounts, services, packages of the system, certificates, timers."""
