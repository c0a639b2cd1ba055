"""What can be known of a playbook or a lifecycle script without running it: rules, each a small function."""
