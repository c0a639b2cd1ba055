"""Conda installations and environments that lie on a volume without conda's or the registry's knowing of them.

The registry of environments and conda's configuration are in the user's home, which a notebook instance loses at each
restart: what is on its volume has to be found by looking. Looked at are the volume's folders, and below each the places
with the usual names; never the whole volume, which may hold a million files of data.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from pathlib import Path

import msgspec

from nbprovision.machine.environments import USUAL_HOMES, children, is_environment

# What people call the folder that they make conda's installer fill, besides the installers' own names; AWS's sample
# persistent-conda-ebs says custom-miniconda/miniconda.
_HOMES = (*USUAL_HOMES, "miniconda", "anaconda", "miniforge", "conda")
_FOLDERS_OF_ENVIRONMENTS = ("envs", "environments", "conda-envs", "conda_envs", "kernels")
_HIDDEN = (".conda",)  # conda's own folder of environments, moved to the volume
_TELLING = ("conda", "mamba", "forge", "env", "kernel")
_MOUNTS = Path("/proc/self/mounts")
_FOLDERS = 200  # of the volume that are looked into; the ones with a telling name first


class Survey(msgspec.Struct, frozen=True):
    """What was found.

    Attributes:
        installations: Prefixes with a conda of their own.
        environments: Other prefixes; those in ``envs`` of an installation are not among them.

    """

    installations: tuple[Path, ...] = ()
    environments: tuple[Path, ...] = ()


def survey(volume: Path) -> Survey:
    """Look at a volume; what cannot be read is passed over."""
    installations: list[Path] = []
    environments: list[Path] = []
    for prefix in _prefixes(volume):
        (installations if is_installation(prefix) else environments).append(prefix)
    return Survey(tuple(installations), tuple(environments))


def virtual_environments(volume: Path) -> list[Path]:
    """The virtual environments that are folders of the volume, or the usual ones in such a folder."""
    places = [place for folder in _folders(volume) for place in (folder, folder / ".venv", folder / "venv")]
    return [place for place in places if os.path.isfile(place / "pyvenv.cfg")]


def is_installation(prefix: Path) -> bool:
    """Whether a conda (or mamba) is installed in the environment."""
    return any(os.path.lexists(prefix / place) for place in ("condabin", "bin/conda", "bin/mamba"))


def _prefixes(volume: Path) -> Iterator[Path]:
    for folder in _folders(volume):
        if is_environment(folder):
            yield folder
            continue
        if folder.name in _FOLDERS_OF_ENVIRONMENTS:
            yield from (folder / name for name in children(folder))
            continue
        yield from (folder / name for name in _HOMES if is_environment(folder / name))
        yield from (folder / "envs" / name for name in children(folder / "envs"))


def _folders(volume: Path) -> list[Path]:
    try:
        with os.scandir(volume) as entries:
            names = [entry.name for entry in entries if _is_folder(entry)]
    except OSError:
        return []
    elsewhere = _mounted()  # EFS, S3 and the like, where a look may take for ever
    names = [name for name in names if not name.startswith(".") or name in _HIDDEN]
    names = [name for name in names if str(volume / name) not in elsewhere]
    names.sort(key=lambda name: (not any(word in name.lower() for word in _TELLING), name))
    return [volume / name for name in names[:_FOLDERS]]


def _mounted() -> set[str]:
    """The places of all mounted file systems (https://man7.org/linux/man-pages/man5/fstab.5.html has the escapes)."""
    try:
        lines = _MOUNTS.read_text(encoding="utf-8", errors="surrogateescape").splitlines()
    except OSError:
        return set()
    fields = [line.split(" ") for line in lines]
    return {re.sub(r"\\([0-7]{3})", lambda match: chr(int(match[1], 8)), two[1]) for two in fields if len(two) > 1}


def _is_folder(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir()
    except OSError:
        return False
