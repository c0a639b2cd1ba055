"""Descriptions of playbooks, generated from the tasks' definitions: reference pages, help, and a JSON Schema."""
