"""Locks of playbooks: the exact packages of every environment, to be committed beside the playbook."""
