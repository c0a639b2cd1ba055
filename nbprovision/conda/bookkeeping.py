"""The files that make a folder of packages an environment for every conda tool: its history, and the registry."""

from __future__ import annotations

import re
import threading
import time
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import msgspec

from nbprovision.conda.health import activation_state, placing, read_history, variables
from nbprovision.conda.records import Details
from nbprovision.machine.environments import MADE_BY_US, META, CondaFacts
from nbprovision.system.files import make_folder, read_text, write_atomically
from nbprovision.system.reading import read_bytes

# The version of conda that introduced this format of the history. A conda refuses an environment whose history names a
# newer version than its own.
_HISTORY_FORMAT = "4.5.0"
_MADE = "made by nbprovision\n"
_CUDA = "solved for CUDA: "
_CLONE = "clone of: "
_SAFE_COMMAND = re.compile(r"/[A-Za-z0-9._/+-]+/conda")
_registry_lock = threading.Lock()  # tasks run in parallel; a run excludes other runs


def begin(prefix: Path) -> None:
    """Make ``prefix`` an empty environment of nbprovision."""
    make_folder(prefix / META)
    write_atomically(prefix / META / MADE_BY_US, _MADE, durable=False)


def solved_for_cuda(prefix: Path) -> str | None:
    """The version of CUDA that `note_cuda` noted last, None without a note."""
    return _noted(prefix, _CUDA)


def note_cuda(prefix: Path, version: str) -> None:
    """Note the version of CUDA that an environment of the tool was solved for (see `machine.platform.cuda_version`)."""
    if solved_for_cuda(prefix) != version:
        _note(prefix, _CUDA, version)


def cloned_from(prefix: Path) -> str | None:
    """The source that `note_clone` noted, None for an environment that is not a copy."""
    return _noted(prefix, _CLONE)


def note_clone(prefix: Path, source: Path) -> None:
    """Note that an environment of nbprovision began as a copy of another."""
    _note(prefix, _CLONE, str(source))


def _noted(prefix: Path, label: str) -> str | None:
    lines = (read_text(prefix / META / MADE_BY_US) or "").splitlines()
    return next((line.removeprefix(label) for line in lines if line.startswith(label)), None)


def _note(prefix: Path, label: str, value: str) -> None:
    lines = (read_text(prefix / META / MADE_BY_US) or _MADE).splitlines()
    lines = [*(line for line in lines if not line.startswith(label)), f"{label}{value}"]
    write_atomically(prefix / META / MADE_BY_US, "".join(f"{line}\n" for line in lines), durable=False)


def append_history(
    conda: CondaFacts,
    prefix: Path,
    after: Iterable[Details],
    *,
    specs: Iterable[str] = (),
    removed: Iterable[str] = (),
) -> None:
    """Add a revision to ``conda-meta/history`` in conda's own format (conda.history.History).

    Otherwise a later ``conda remove`` would take every package for one that was not requested. The revision has all
    changes since the previous one, also those of an interrupted install.

    Args:
        conda: The facts about conda, for the names of channels.
        prefix: The environment.
        after: The packages that are installed now.
        specs: The requested specs.
        removed: Names of packages whose removal was requested.

    """
    old = read_history(prefix) or {}
    new = {f"{package.name}-{package.version}-{package.build}": _distribution(conda, package) for package in after}
    path = prefix / META / "history"
    text = read_text(path) or ""
    lines = [
        f"==> {time.strftime('%Y-%m-%d %H:%M:%S')} <==",
        f"# cmd: {_command(conda, first=not text.strip())}",
        f"# conda version: {_HISTORY_FORMAT}",
        *(f"-{old[stem]}" for stem in sorted(old.keys() - new.keys())),
        *(f"+{new[stem]}" for stem in sorted(new.keys() - old.keys())),
    ]
    if removed:
        lines.append(f"# remove specs: {sorted(removed)!r}")
    if specs:
        lines.append(f"# update specs: {list(specs)!r}")
    if text and not text.endswith("\n"):
        text += "\n"
    write_atomically(path, text + "\n".join(lines) + "\n", durable=False)  # a lost one is written again


def _distribution(conda: CondaFacts, package: Details) -> str:
    channel = conda.condarc.name_of(package.home)
    return f"{channel}/{package.subdir}::{package.name}-{package.version}-{package.build}"


def _command(conda: CondaFacts, *, first: bool) -> str:
    """The command of a revision, safe for ``%conda`` in a notebook.

    IPython takes the text before `` create`` or `` install`` for the path of conda and runs it. Therefore that text is
    the conda of this machine, or the line does not mention conda; it never comes from the playbook.
    """
    executable = str(conda.executable or "")
    if _SAFE_COMMAND.fullmatch(executable):
        return f"{executable} {'create' if first else 'install'}"
    return "nbprovision run"


def register(conda: CondaFacts, prefix: Path) -> None:
    """List ``prefix`` in the registry, once."""
    with _registry_lock:
        text = read_text(conda.registry) or ""
        if str(prefix) not in text.splitlines():
            ending = "" if not text or text.endswith("\n") else "\n"
            write_atomically(conda.registry, f"{text}{ending}{prefix}\n", durable=False)  # every run checks it
    conda.now_registered(prefix)


def unregister(conda: CondaFacts, prefix: Path) -> None:
    """Remove ``prefix`` from the registry."""
    with _registry_lock:
        text = read_text(conda.registry) or ""
        lines = [line for line in text.splitlines() if line.strip() != str(prefix)]
        if len(lines) != len(text.splitlines()):
            write_atomically(conda.registry, "".join(f"{line}\n" for line in lines))


def correct_paths(record: Path) -> None:
    """Replace the paths in conda's record of a pure Python package by those in the environment.

    conda lists the paths in the package, and uses another list to remove them. py-rattler uses this one, and would
    leave the files behind.
    """
    text = read_bytes(record)
    if b'"site-packages/' not in text and b'"python-scripts/' not in text:
        return
    document: dict[str, Any] = msgspec.json.decode(text)
    placed = placing(document.get("files", []))
    for entry in (document.get("paths_data") or {}).get("paths") or []:
        entry["_path"] = placed(entry["_path"])
    write_atomically(record, msgspec.json.format(msgspec.json.encode(document), indent=2))


def set_variables(prefix: Path, wanted: Mapping[str, str]) -> None:
    """Add environment variables that activation sets; the rest of the file stays."""
    state = {**activation_state(prefix), "env_vars": {**variables(prefix), **wanted}}
    write_atomically(prefix / META / "state", msgspec.json.encode(state))
