"""Write, try and remove the folder of a kernel."""

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
from nbprovision.model.task import LockRequest
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
_TRIAL_SECONDS = 60


def install_ipykernel(machine: Machine, prefix: Path, lacking: Sequence[str]) -> None:
    """Install ipykernel with the built-in engine, and reinstall the ``lacking`` distributions.

    Raises:
        TaskFailed: the engine failed; the error contains its output.

    """
    from nbprovision.pip import engine, requirements
    from nbprovision.pip.guard import image_constraints
    from nbprovision.pip.requirements_files import RequirementSet

    for distribution in itertools.chain.from_iterable(distributions.installed(prefix).values()):
        needed = distribution.name in ("ipykernel", *lacking) or not distribution.has_metadata
        if distribution.broken and needed:
            remove(distribution.path)  # the remains of an interrupted install make uv fail
    request = RequirementSet(wanted=(requirements.parse("ipykernel"),))
    engine.install(machine, prefix, request, constraints=image_constraints(machine, prefix), reinstall=lacking)


def lock_request(prefix: Path) -> LockRequest:
    """The request for ipykernel in a lock."""
    from nbprovision.pip import requirements
    from nbprovision.pip.lock_request import PipLockRequest
    from nbprovision.pip.requirements_files import RequirementSet

    wanted = RequirementSet(wanted=(requirements.parse("ipykernel"),))
    return PipLockRequest(prefix=prefix, wanted=wanted, environment=prefix)


def write(folder: Path, files: Mapping[str, bytes], *, mode: int, unwanted: Iterable[str] = ()) -> None:
    """Write files into a kernel's folder, kernel.json last, so that Jupyter lists complete kernels only.

    Args:
        folder: The kernel's folder; a link or a file in its place is removed.
        files: Content by file name.
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
        write_atomically(folder / name, files[name], mode=mode, durable=False)  # every run compares the content
    for name in unwanted:
        remove(folder / name)


def withdraw(folder: Path) -> None:
    """Remove a kernel, kernel.json first, so that Jupyter never lists half a kernel."""
    if not folder.is_symlink():
        remove(folder / SPEC)
    remove(folder)


def give_up(folder: Path) -> None:
    """Remove the files of a kernel that Jupyter never listed; a kernel with a kernel.json stays."""
    if not os.path.lexists(folder / SPEC):
        remove(folder)
        remove_if_empty(folder.parent)


def try_out(machine: Machine, prefix: Path, spec: Mapping[str, Any], folder: Path) -> None:
    """Start the kernel with the environment's own jupyter_client, and ask it for ``sys.prefix``.

    Args:
        machine: The machine, whose variables the kernel gets.
        prefix: The environment that the kernel must report.
        spec: kernel.json as plain data; the file itself need not exist yet.
        folder: The folder with the other files of the kernel.

    Raises:
        TaskFailed: the kernel did not start, did not answer in time, or runs another Python.

    """
    from nbprovision.system import trust
    from nbprovision.system.commands import run

    trust.program(spec["argv"][0], env=machine.env)  # the trial's Python starts it
    failure = f"the kernel '{folder.name}' does not work"
    with temporary_folder(machine.cache / "kernel-trial") as scratch:
        request = {"spec": spec, "folder": str(folder), "scratch": str(scratch), "seconds": _TRIAL_SECONDS}
        done = run(
            [prefix / "bin/python", "-I", Path(__file__).with_name("trial.py")],
            env=machine.env,
            stdin=msgspec.json.encode(request).decode(),
            timeout=_TRIAL_SECONDS * 2,
            failure=failure,
        )
    try:
        answer = msgspec.json.decode(done.output.strip().rpartition("\n")[2], type=dict[str, str])
    except ValueError:
        answer = {"error": "the trial gave no answer", "stderr": done.output}
    if "error" in answer:
        output = mask(answer.get("stderr", "").strip()[-4000:])
        cause = mask(answer["error"]) + (f"; its output: {output}" if output else "")
        raise TaskFailed(failure, cause=cause, cure=f"try it by hand: {prefix}/bin/python -m ipykernel_launcher")
    actual = answer.get("prefix", "")
    if os.path.realpath(actual) != os.path.realpath(prefix):
        raise TaskFailed(
            failure,
            cause=f"its Python runs in {actual or 'an unknown prefix'}, not in {prefix}",
            cure="look for PYTHONHOME, and for an activation script of the environment that changes it",
        )
