"""``nbprovision schema``: prints the JSON Schema of a playbook, for completion and checks in an editor."""

from __future__ import annotations

import argparse
import json
import sys

from nbprovision.catalogue import Catalogue
from nbprovision.playbook.own_tasks import Kinds
from nbprovision.playbook.yaml_nodes import Files
from nbprovision.reference.schema import schema


def configure(parser: argparse.ArgumentParser) -> None:
    """``schema`` has no options."""


def execute(options: argparse.Namespace) -> int:  # noqa: ARG001 - as every command
    """Print the schema, with the tasks of installed packages.

    Returns:
        0.

    Raises:
        InvalidPlaybook: a task of an installed package cannot be used.

    """
    sys.stdout.write(json.dumps(schema(Kinds(Catalogue(), Files())), indent=1) + "\n")
    return 0
