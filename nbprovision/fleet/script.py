"""The script of a ring, as SageMaker gets it, and its name: ``FLEET-RING-rN``, whose content never changes."""

from __future__ import annotations

import base64
import re
from collections.abc import Iterable, Mapping

import msgspec

from nbprovision.fleet.bucket import RINGS, SCRIPTS, WHEELS
from nbprovision.fleet.definition import Fleet, Ring
from nbprovision.lifecycle.render import MAX_BYTES, render
from nbprovision.lifecycle.root_part import RootPart
from nbprovision.model.errors import UsageError

# https://docs.aws.amazon.com/sagemaker/latest/APIReference/API_CreateNotebookInstanceLifecycleConfig.html
_CONFIGURATION = re.compile(r"[a-zA-Z0-9](-*[a-zA-Z0-9]){0,62}")
_OBJECT = re.compile(rf"{SCRIPTS}(?P<ring>.+)-r(?P<revision>[1-9]\d{{0,8}})\.sh")


def rendered(fleet: Fleet, ring: Ring, root: RootPart | None) -> str:
    """Return the script of a ring.

    Args:
        fleet: The fleet.
        ring: The ring.
        root: Root's part, of the playbook's ``root_tasks``; the script fetches a large one from ``wheels/``.

    Raises:
        UsageError: an option is not possible in a script, or the script is too large.
    """
    wheels = f"{fleet.url}/{WHEELS.rstrip('/')}"
    return render(fleet.script.request(f"{fleet.url}/{RINGS}{ring.name}", wheels, root))


def object_name(ring: str, revision: int) -> str:
    """Return the key of a script below the fleet's prefix."""
    return f"{SCRIPTS}{ring}-r{revision}.sh"


def revisions(names: Iterable[str]) -> Mapping[str, int]:
    """Return the newest revision of each ring, by the names of the objects in ``scripts/``."""
    newest: dict[str, int] = {}
    for name in names:
        match = _OBJECT.fullmatch(name)
        if match is not None:
            newest[match["ring"]] = max(newest.get(match["ring"], 0), int(match["revision"]))
    return newest


class Configuration(msgspec.Struct, frozen=True, kw_only=True):
    """A lifecycle configuration: its name and its script for each start."""

    name: str
    script: str

    def __post_init__(self) -> None:
        """Refuse what the platform would refuse, or would run as another script.

        Raises:
            UsageError: the name or the script is not possible.
        """
        if not _CONFIGURATION.fullmatch(self.name):
            raise UsageError(
                f"a lifecycle configuration cannot be called {self.name[:80]}",
                cause="the platform takes up to 63 letters, digits, and hyphens between them",
                cure="shorten the names of the fleet and of the ring",
            )
        size = len(self.script.encode())
        if size > MAX_BYTES:
            raise UsageError(
                f"the script of {self.name} has {size:,} bytes, and the platform accepts {MAX_BYTES:,}",
                cause="that is 16,384 characters of base64",
                cure="shorten the options of `script` in the fleet file",
            )
        if "\r" in self.script:
            raise UsageError(
                f"the script of {self.name} has line ends of Windows (CRLF)",
                cause="its first line would not start: /bin/sh^M",
                cure="save it with line ends of Linux (LF)",
            )
        if not self.script.startswith("#!"):
            raise UsageError(
                f"the script of {self.name} does not begin with #!", cure="render it again: nbprovision fleet render"
            )

    @property
    def base64(self) -> str:
        """The script as the platform takes it."""
        return base64.b64encode(self.script.encode()).decode("ascii")
