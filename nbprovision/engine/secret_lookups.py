"""Secrets of AWS in templates: a run asks for them, a check only whether anybody could."""

from __future__ import annotations

from nbprovision.machine.machine import Machine
from nbprovision.playbook.outside import Outside


def outside_of(machine: Machine, *, check: bool) -> type[Outside]:
    """The part of the machine that templates may read in a run; each secret is read once.

    Args:
        machine: The facts.
        check: Look no further than whether there is an ``aws`` command.

    """
    values: dict[tuple[str, str, str | None], str] = {}

    class Asking(Outside):
        def secret(self, kind: str, name: str, region: str | None) -> str:
            from nbprovision.machine import aws

            placeholder = super().secret(kind, name, region)
            if check:
                aws.require_command(machine, kind, name)
                return placeholder
            if (kind, name, region) not in values:
                values[kind, name, region] = aws.fetch_secret(machine, kind, name, region)
            return values[kind, name, region]

    return Asking
