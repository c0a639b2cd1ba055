"""The extension of JupyterLab that nbprovision brings: where it goes, and what is missing there.

A prebuilt extension in the user's own data folder is enabled without pip, a configuration or a restart of the server
(https://jupyterlab.readthedocs.io/en/stable/extension/extension_dev.html#distributing-a-prebuilt-extension).
"""

from __future__ import annotations

from pathlib import Path

import msgspec

from nbprovision.files.file_work import FILE_MODE, FOLDER_MODE, FilePlan, FileStep
from nbprovision.machine import kernels
from nbprovision.machine.machine import Machine
from nbprovision.model.result import Change
from nbprovision.system.files import PathState, path_state, tree

NAME = "nbprovision"
_SOURCE = Path(__file__).parents[1] / "labextension"
_MANIFEST = "package.json"  # makes JupyterLab list the extension, so it is written last


class OwnExtension(msgspec.Struct, frozen=True):
    """The folder of the extension.

    Attributes:
        folder: Its path.
        itself: What is at this path.
        entries: What is in it, by relative path.

    """

    folder: Path
    itself: PathState
    entries: dict[str, PathState]


def place(machine: Machine) -> Path:
    """The folder of the extension in the user's own data folder, never in an environment."""
    return kernels.data_dir(machine.env, machine.user_home) / "labextensions" / NAME


def wanted() -> dict[str, bytes | None]:
    """The entries of the extension, in the order in which they are written; None is a folder."""
    names = sorted(tree(_SOURCE), key=lambda name: (name == _MANIFEST, name))
    return {name: None if (_SOURCE / name).is_dir() else (_SOURCE / name).read_bytes() for name in names}


def read(machine: Machine) -> OwnExtension:
    """What is at the place of the extension.

    Raises:
        TaskFailed: it cannot be read.

    """
    folder = place(machine)
    itself = path_state(folder)
    names = list(tree(folder)) if itself.kind == "folder" else []
    return OwnExtension(folder, itself, {name: path_state(folder / name) for name in names})


def plan(state: OwnExtension, *, absent: bool) -> FilePlan:
    """Compare the folder with the extension: one change for all of it."""
    folder, exists = state.folder, state.itself.kind != "nothing"
    if absent:
        removal = FileStep(path=folder, do="remove")
        return FilePlan(changes=(Change("remove", str(folder)),), steps=(removal,)) if exists else FilePlan()
    steps = []
    if state.itself.kind != "folder" or state.itself.mode != FOLDER_MODE:
        steps += [FileStep(path=folder, do="remove")] if exists and state.itself.kind != "folder" else []
        steps.append(FileStep(path=folder, do="make folder", mode=FOLDER_MODE))
    entries = wanted()
    for name, data in entries.items():
        steps += _steps(folder / name, data, state.entries.get(name, PathState()))
    extra = [name for name in state.entries if name not in entries and str(Path(name).parent) in (".", *entries)]
    steps += [FileStep(path=folder / name, do="remove") for name in extra]
    change = Change("write" if exists else "create", str(folder))
    return FilePlan(changes=(change,), steps=tuple(steps)) if steps else FilePlan()


def _steps(path: Path, data: bytes | None, entry: PathState) -> list[FileStep]:
    kind, mode = ("folder", FOLDER_MODE) if data is None else ("file", FILE_MODE)
    if (entry.kind, entry.mode, entry.data) == (kind, mode, data):
        return []
    steps = [FileStep(path=path, do="remove")] if entry.kind not in ("nothing", kind) else []
    do = FileStep(path=path, do="make folder", mode=mode)
    return [*steps, do if data is None else FileStep(path=path, do="write", data=data, mode=mode)]
