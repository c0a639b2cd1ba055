"""The machine's ``aws`` command, which has the credentials of the notebook's role."""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from nbprovision.machine.machine import Machine

INSTALL = "install it (https://docs.aws.amazon.com/cli/latest/userguide/getting-started-install.html)"
ROLE = (
    "see by `aws sts get-caller-identity` whether this machine has a role; on a notebook instance it is the one that "
    "the instance was given"
)
NO_CREDENTIALS = ("unable to locate credentials", "expiredtoken", "invalidclienttoken", "unrecognizedclient")
NO_WAY = ("could not connect", "connect timeout", "read timeout", "killed after")
TIMEOUT = 60.0  # seconds; the command itself tries again several times before it gives up
_USUAL_FOLDERS = ("/usr/local/bin", "/usr/bin", "/usr/local/aws-cli/v2/current/bin")


def find(machine: Machine) -> str | None:
    """The command on the PATH, else in the usual places: a lifecycle script's PATH is short."""
    folders = [machine.env.get("PATH", "")]
    if machine.root == Path("/"):
        folders += [*_USUAL_FOLDERS, *(str(base / "bin") for base in machine.conda.installations)]
    return shutil.which("aws", path=os.pathsep.join(folders))


def environment(machine: Machine) -> dict[str, str]:
    """The variables that it is started with: no pager waits for a key."""
    return {**{name: value for name, value in machine.env.items() if name != "SUDO_UID"}, "AWS_PAGER": ""}
