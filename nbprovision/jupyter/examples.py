"""How `ensure_kernel` is used, and what it can have changed."""

from __future__ import annotations

ACTIONS = {
    "install": "ipykernel into the environment",
    "write": "a file of the kernel's folder",
    "set mode": "who may read it",
    "remove": "the kernel, or a file of it that is of no use any more",
}

EXAMPLES = """
- name: A kernel of an environment, tried before it is offered
  ensure_kernel:
    env: fraud
    display_name: Fraud (Python)
    validate: true
    environment:
      STAGE: test
      PATH: "${HOME}/bin:${PATH}"

- name: A kernel for each of several environments
  ensure_kernel:
    envs: [fraud, "ris*"]
    name: "team-{env}"
    display_name: "Team ({env})"

- name: A program that speaks Jupyter's protocol
  ensure_kernel:
    name: plain
    argv: [/usr/bin/python3, -m, ipykernel_launcher, -f, "{connection_file}"]
    display_name: The machine's Python

- name: A kernel that is no longer offered
  ensure_kernel:
    name: old
    state: absent
"""
