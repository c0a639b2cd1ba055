"""What a lock of the playbook has for an environment, in a run that installs exactly that (``run --locked``)."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import msgspec

# Hosts that cannot exist (RFC 6761, section 6.4): in a lock they name folders of the machine that a playbook runs on.
PLAYBOOK = "https://playbook.invalid"
TOOL = "https://nbprovision.invalid"
HOME = "https://home.invalid"
PLACES = (PLAYBOOK, TOOL, HOME)


class LockedEnvironment(msgspec.Struct, frozen=True, kw_only=True):
    """The part of a lock that an environment is installed from.

    Attributes:
        name: The environment's name in the lock.
        index: The file with what the lock was made from.
        conda: The ``pixi.lock`` with its conda packages; None without any.
        pylock: The ``pylock.toml`` with its Python distributions; None without any.
        here: Gives the URL on this machine of a URL in the lock.

    """

    name: str
    index: Path
    conda: Path | None = None
    pylock: Path | None = None
    here: Callable[[str], str]

    @property
    def files(self) -> tuple[Path, ...]:
        """Its files in the lock."""
        return tuple(path for path in (self.index, self.conda, self.pylock) if path is not None)
