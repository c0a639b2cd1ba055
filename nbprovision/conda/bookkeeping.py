"""What makes a folder of packages an environment for every conda tool: its history, its place in the registry."""

from __future__ import annotations

import re
import threading
import time
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import msgspec

from nbprovision.conda.health import Details, activation_state, history_tells, placing, variables
from nbprovision.machine.environments import MADE_BY_US, META, CondaFacts
from nbprovision.system.files import make_folder, read_text, write_atomically
from nbprovision.system.reading import read_bytes

# The version whose form of the history this is. Older ones of conda refuse an environment whose history names a newer
# version than their own.
_HISTORY_FORMAT = "4.5.0"
_MADE = "made by nbprovision\n"
_CUDA = "solved for CUDA: "
_CLONE = "clone of: "
_SAFE_COMMAND = re.compile(r"/[A-Za-z0-9._/+-]+/conda")
_registry_lock = threading.Lock()  # tasks work side by side; a run excludes other runs


def begin(prefix: Path) -> None:
    """Make ``prefix`` an environment of this tool, empty as yet."""
    make_folder(prefix / META)
    write_atomically(prefix / META / MADE_BY_US, _MADE, durable=False)


def solved_for_cuda(prefix: Path) -> str | None:
    """What `note_cuda` noted last, None where nobody did."""
    return _noted(prefix, _CUDA)


def note_cuda(prefix: Path, what: str) -> None:
    """Note what an environment of this tool was solved for (see `machine.platform.cuda_version`)."""
    if solved_for_cuda(prefix) != what:
        _note(prefix, _CUDA, what)


def cloned_from(prefix: Path) -> str | None:
    """What `note_clone` noted, None for an environment that is no copy."""
    return _noted(prefix, _CLONE)


def note_clone(prefix: Path, source: Path) -> None:
    """Note that an environment of this tool began as a copy of another."""
    _note(prefix, _CLONE, str(source))


def _noted(prefix: Path, what: str) -> str | None:
    lines = (read_text(prefix / META / MADE_BY_US) or "").splitlines()
    return next((line.removeprefix(what) for line in lines if line.startswith(what)), None)


def _note(prefix: Path, what: str, value: str) -> None:
    lines = (read_text(prefix / META / MADE_BY_US) or _MADE).splitlines()
    kept = [line for line in lines if not line.startswith(what)]
    write_atomically(
        prefix / META / MADE_BY_US, "".join(f"{line}\n" for line in [*kept, f"{what}{value}"]), durable=False
    )


def append_history(
    conda: CondaFacts,
    prefix: Path,
    after: Iterable[Details],
    *,
    specs: Iterable[str] = (),
    removed: Iterable[str] = (),
) -> None:
    """Add a revision to ``conda-meta/history`` in conda's own form (conda.history.History).

    Without it a later ``conda remove`` takes every package for one that nobody asked for. It tells what has changed
    since the history was last told of anything, which is more than the last install where one ended in the middle.

    Args:
        conda: Names the channels as conda does.
        prefix: The environment.
        after: The packages that are there now.
        specs: What was asked for.
        removed: Names of packages that were asked to go.

    """
    old = history_tells(prefix) or {}
    new = {f"{one.name}-{one.version}-{one.build}": _distribution(conda, one) for one in after}
    path = prefix / META / "history"
    text = read_text(path) or ""
    lines = [
        f"==> {time.strftime('%Y-%m-%d %H:%M:%S')} <==",
        f"# cmd: {_command(conda, first=not text.strip())}",
        f"# conda version: {_HISTORY_FORMAT}",
        *(f"-{old[one]}" for one in sorted(old.keys() - new.keys())),
        *(f"+{new[one]}" for one in sorted(new.keys() - old.keys())),
    ]
    if removed:
        lines.append(f"# remove specs: {sorted(removed)!r}")
    if specs:
        lines.append(f"# update specs: {list(specs)!r}")
    if text and not text.endswith("\n"):
        text += "\n"
    write_atomically(path, text + "\n".join(lines) + "\n", durable=False)  # one that is lost is written again


def _distribution(conda: CondaFacts, package: Details) -> str:
    channel = conda.condarc.name_of(package.home)
    return f"{channel}/{package.subdir}::{package.name}-{package.version}-{package.build}"


def _command(conda: CondaFacts, *, first: bool) -> str:
    """The command of a revision, safe for ``%conda`` in a notebook.

    IPython takes what stands before `` create`` or `` install`` for the path of conda and runs it, so nothing of the
    playbook may stand there: it is the conda of this machine or a line that says nothing of conda.
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
            write_atomically(conda.registry, f"{text}{ending}{prefix}\n", durable=False)  # every run looks at it
    conda.now_registered(prefix)


def unregister(conda: CondaFacts, prefix: Path) -> None:
    """Take ``prefix`` from the registry."""
    with _registry_lock:
        text = read_text(conda.registry) or ""
        lines = [line for line in text.splitlines() if line.strip() != str(prefix)]
        if len(lines) != len(text.splitlines()):
            write_atomically(conda.registry, "".join(f"{line}\n" for line in lines))


def correct_paths(record: Path) -> None:
    """Let the record of a pure Python package that conda put in place list its files where they are.

    conda lists where they were in the package, and goes by another list when it removes them; py-rattler goes by this
    one, and would leave the files behind.
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
    """Add to the environment variables that activation sets; the rest of the file stays."""
    state = {**activation_state(prefix), "env_vars": {**variables(prefix), **wanted}}
    write_atomically(prefix / META / "state", msgspec.json.encode(state))
