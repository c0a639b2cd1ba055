"""Anaconda's terms of service: whether they apply to a channel, and whether the user has accepted them.

conda itself stops for them since 2025, by its plugin conda-anaconda-tos
(https://www.anaconda.com/docs/getting-started/tos-plugin). It reads acceptances from the folders that are listed here,
and takes all terms as accepted if ``plugins.auto_accept_tos`` is set. nbprovision does not stop; it prints a note.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

import msgspec

from nbprovision.system.reading import read_json

if TYPE_CHECKING:
    from nbprovision.machine.machine import Machine

LINK = "https://www.anaconda.com/legal"
_HOST = "repo.anaconda.com"


def notes(machine: Machine, channels: Iterable[str]) -> tuple[str, ...]:
    """A note if Anaconda's terms apply to a channel and have not been accepted; else nothing.

    Args:
        machine: The machine, for conda's configuration and the folders of acceptances.
        channels: URLs.

    """
    concerned = [url for url in channels if urlsplit(url).hostname == _HOST]
    if not concerned or machine.conda.condarc.auto_accept_tos or all(_accepted(machine, url) for url in concerned):
        return ()
    accept = " ".join(f"--channel {url}" for url in concerned)
    sentence = (
        f"Anaconda's terms of service apply to {' and '.join(concerned)} ({LINK}); some organisations need a licence. "
        f"To accept them: `conda tos accept --override-channels {accept}`, or CONDA_PLUGINS_AUTO_ACCEPT_TOS=yes. "
        "Alternative: the channel conda-forge"
    )
    return (sentence,)


def accepted_in(machine: Machine) -> list[Path]:
    """The folders in which ``conda tos accept`` records acceptances."""
    home, root = machine.user_home, machine.root
    folders = [root / "etc/conda/tos", root / "var/lib/conda/tos", home / ".config/conda/tos", home / ".conda/tos"]
    return folders + ([machine.conda.base / "conda-meta/tos"] if machine.conda.base is not None else [])


def _accepted(machine: Machine, url: str) -> bool:
    name = re.sub(r"^https?://[^/]*/", "", url).strip("/")
    channel = hashlib.sha256(f"{_HOST}{name}".encode()).hexdigest()
    for folder in accepted_in(machine):
        for record in (folder / channel).glob("*.json"):
            try:
                content = read_json(record)
            except (OSError, msgspec.DecodeError):
                continue
            if isinstance(content, dict) and content.get("tos_accepted"):
                return True
    return False
