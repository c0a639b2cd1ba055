"""How `ensure_pip_pkg` is used, and what it can have changed."""

from __future__ import annotations

ACTIONS = {
    "install": "a distribution",
    "upgrade": "to a newer version",
    "downgrade": "to an older version",
    "change": "to what is asked for, where versions cannot tell which is newer",
    "reinstall": "what is there and harmed, or comes from another place",
    "remove": "a distribution, or what a killed removal left of one",
}

EXAMPLES = """
- name: Packages in an environment
  ensure_pip_pkg:
    env: fraud
    packages:
      - humanize
      - tabulate>=0.9; python_version >= "3.9"

- name: What files describe
  ensure_pip_pkg:
    env: fraud
    requirements: requirements.txt
    constraints: constraints.txt

- name: The newest version in several environments
  ensure_pip_pkg:
    envs: [fraud, "ris*"]
    packages: idna
    state: latest

- name: A folder of packages that survives a restart
  ensure_pip_pkg:
    env: fraud
    packages: [humanize]
    target: ./packages

- name: A package that is to go
  ensure_pip_pkg:
    env: fraud
    packages: [tabulate]
    state: absent
"""
