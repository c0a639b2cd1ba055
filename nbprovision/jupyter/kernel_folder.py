"""Makes, tries and removes the folder of a kernel; starts a process only to try one."""

from __future__ import annotations

import itertools
import os
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import msgspec

from nbprovision.machine import distributions
from nbprovision.machine.kernels import SPEC
from nbprovision.machine.machine import Machine
from nbprovision.model.errors import TaskFailed
from nbprovision.system.files import (
    explained,
    make_folder,
    remove,
    remove_if_empty,
    set_mode,
    temporary_folder,
    write_atomically,
)
from nbprovision.system.secrets import mask

FOLDER_MODE = 0o755
_HERE = Path(__file__).parent
_TRIAL_SECONDS = 60


def install_ipykernel(
    machine: Machine, prefix: Path, lacking: Sequence[str], *, constraints: Sequence[Path] = ()
) -> None:
    """Install ipykernel by the built-in engine; ``lacking`` distributions are put in place anew.

    Raises:
        TaskFailed: with the engine's own words.

    """
    from nbprovision.pip import engine, requirements
    from nbprovision.pip.requirements_files import RequirementSet

    for one in itertools.chain.from_iterable(distributions.installed(prefix).values()):
        if one.broken and (one.name in ("ipykernel", *lacking) or not one.has_metadata):
            remove(one.path)  # the debris of an install that was cut off, at which uv stops
    asked = RequirementSet(wanted=(requirements.parse("ipykernel"),))
    engine.install(machine, prefix, asked, constraints=constraints, reinstall=lacking)


def write(folder: Path, files: Mapping[str, bytes], *, mode: int, unwanted: Iterable[str] = ()) -> None:
    """Put files into a kernel's folder, kernel.json last: what Jupyter lists is complete.

    Args:
        folder: The kernel's folder; a link or a file at its place is removed.
        files: Name to content.
        mode: Permission bits of each file.
        unwanted: Names of files to remove.

    Raises:
        TaskFailed: the folder cannot be written.

    """
    if os.path.lexists(folder) and (folder.is_symlink() or not folder.is_dir()):
        remove(folder)
    with explained(f"cannot make {folder}"):
        make_folder(folder, mode=FOLDER_MODE)
    set_mode(folder, FOLDER_MODE)
    for name in sorted(files, key=lambda name: name == SPEC):
        write_atomically(folder / name, files[name], mode=mode, durable=False)  # every run compares them
    for name in unwanted:
        remove(folder / name)


def withdraw(folder: Path) -> None:
    """Remove a kernel; kernel.json goes first, so that Jupyter never lists half a kernel."""
    if not folder.is_symlink():
        remove(folder / SPEC)
    remove(folder)


def give_up(folder: Path) -> None:
    """Remove what `write` left of a kernel that was never offered; one that has its kernel.json stays."""
    if not os.path.lexists(folder / SPEC):
        remove(folder)
        remove_if_empty(folder.parent)


def try_out(machine: Machine, prefix: Path, spec: Mapping[str, Any], folder: Path) -> None:
    """Start the kernel that ``spec`` describes with the environment's own jupyter_client, and ask for ``sys.prefix``.

    Args:
        machine: Whose variables the kernel is started with.
        prefix: What the kernel must answer.
        spec: kernel.json as plain data; need not be written yet.
        folder: Where the other files of the kernel are.

    Raises:
        TaskFailed: it did not start, did not answer in time, or runs another Python.

    """
    from nbprovision.system import launch
    from nbprovision.system.commands import run

    launch.program(spec["argv"][0], env=machine.env)  # the trial's Python starts it
    failure = f"the kernel '{folder.name}' does not work"
    with temporary_folder(machine.cache / "kernel-trial") as scratch:
        request = {"spec": spec, "folder": str(folder), "scratch": str(scratch), "seconds": _TRIAL_SECONDS}
        done = run(
            [prefix / "bin/python", "-I", _HERE / "kernel_trial.py"],
            env=machine.env,
            stdin=msgspec.json.encode(request).decode(),
            timeout=_TRIAL_SECONDS * 2,
            failure=failure,
        )
    answer = _last_line(done.output)
    if "error" in answer:
        written = mask(answer.get("stderr", "").strip()[-4000:])
        cause = mask(answer["error"]) + (f"; it wrote: {written}" if written else "")
        raise TaskFailed(failure, cause=cause, cure=f"try it by hand: {prefix}/bin/python -m ipykernel_launcher")
    found = answer.get("prefix", "")
    if os.path.realpath(found) != os.path.realpath(prefix):
        raise TaskFailed(
            failure,
            cause=f"its Python runs in {found or 'an unknown prefix'}, not in {prefix}",
            cure="look for PYTHONHOME, and for an activation script of the environment that changes it",
        )


def _last_line(output: str) -> dict[str, str]:
    try:
        return msgspec.json.decode(output.strip().rpartition("\n")[2], type=dict[str, str])
    except ValueError:
        return {"error": "the trial left no answer", "stderr": output}
