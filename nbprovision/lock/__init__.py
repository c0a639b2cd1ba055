"""Locks of playbooks: the exact packages of every environment, to be committed beside the playbook."""

from nbprovision.lock.folder import Lock, read

__all__ = ["Lock", "read"]
