"""``nbprovision schema``: the JSON Schema of a playbook, by which an editor completes and checks it."""

from __future__ import annotations

import argparse
import json
import sys

from nbprovision.catalogue import Catalogue
from nbprovision.reference.schema import schema


def configure(parser: argparse.ArgumentParser) -> None:
    """``schema`` has no options."""


def execute(options: argparse.Namespace) -> int:  # noqa: ARG001 - as every command
    """Print it.

    Returns:
        0.

    """
    sys.stdout.write(json.dumps(schema(Catalogue()), indent=1) + "\n")
    return 0
