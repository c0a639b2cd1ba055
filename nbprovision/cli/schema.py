"""``nbprovision schema``: prints the JSON Schema of a playbook, for completion and checks in an editor."""

from __future__ import annotations

import argparse
import json
import sys

from nbprovision.catalogue import Catalogue
from nbprovision.reference.schema import schema


def configure(parser: argparse.ArgumentParser) -> None:
    """``schema`` has no options."""


def execute(options: argparse.Namespace) -> int:  # noqa: ARG001 - as every command
    """Print the schema.

    Returns:
        0.

    """
    sys.stdout.write(json.dumps(schema(Catalogue()), indent=1) + "\n")
    return 0
