"""Virtual environments that have a name: those in the folders where this tool makes environments.

Python's own tools know virtual environments by path only (PEP 405), and conda does not list them: a folder without
conda-meta is none of its environments, wherever it lies.
"""

from __future__ import annotations

import os
import re
from pathlib import Path

from nbprovision.machine.environments import CondaFacts, folders_of, is_environment

_NUMBERS = re.compile(r"3(\.\d+){0,2}")


def is_virtual(prefix: Path) -> bool:
    """Whether ``prefix`` is a virtual environment: it has a pyvenv.cfg."""
    return os.path.isfile(prefix / "pyvenv.cfg")


def new_prefix(conda: CondaFacts, name: str) -> Path:
    """Where one is made that is given by name alone.

    On a notebook instance ``envs`` on its volume, elsewhere ``envs`` in the tool's home; never in a folder of conda's,
    where conda refuses to make an environment of that name.
    """
    return conda.own_folders[0] / name


def named(conda: CondaFacts) -> dict[str, Path]:
    """Those in the folders where this tool makes environments, name to prefix; without those that are conda's too."""
    found: dict[str, Path] = {}
    for folder in conda.own_folders:
        try:
            names = sorted(os.listdir(folder))
        except OSError:
            continue
        for name in names:
            prefix = folder / name
            if not name.startswith(".") and is_virtual(prefix) and not is_environment(prefix):
                found.setdefault(name, prefix)
    return found


def on_volume(volume: Path) -> list[Path]:
    """The virtual environments that are folders of the volume, or the usual ones in such a folder."""
    places = [place for folder in folders_of(volume) for place in (folder, folder / ".venv", folder / "venv")]
    return [place for place in places if is_virtual(place)]


def is_request(text: str) -> bool:
    """Whether ``text`` says which versions of Python will do: ``3.12``, ``3.12.4``, ``>=3.10,<3.13``."""
    if _NUMBERS.fullmatch(text):
        return True
    from packaging.specifiers import InvalidSpecifier, SpecifierSet  # not needed by a run with nothing to do

    try:
        return bool(text.strip() and SpecifierSet(text))
    except InvalidSpecifier:
        return False


def satisfies(version: str, request: str) -> bool:
    """Whether a Python of that version will do; ``3.12`` means every 3.12."""
    if _NUMBERS.fullmatch(request):
        return version.split(".")[: request.count(".") + 1] == request.split(".")
    from packaging.specifiers import SpecifierSet
    from packaging.version import InvalidVersion, Version

    try:
        return Version(version) in SpecifierSet(request)
    except InvalidVersion:
        return False


def minor(version: str | None) -> str:
    """``3.12`` of ``3.12.4``; packages are installed for one of these."""
    return ".".join((version or "").split(".")[:2])
