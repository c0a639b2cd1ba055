"""The kinds of task that a play knows: nbprovision's own, those in its ``task_folders``, and those of packages.

A package declares its tasks as entry points: https://packaging.python.org/en/latest/specifications/entry-points/
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nbprovision.model.errors import InvalidPlaybook, Position
from nbprovision.model.task import Task
from nbprovision.playbook.values import is_nothing, kind_of
from nbprovision.playbook.yaml_nodes import Files, ListNode, MapNode, Node, Scalar
from nbprovision.system import trust

if TYPE_CHECKING:
    from importlib.metadata import EntryPoint

GROUP = "nbprovision.tasks"
KEYWORD = "task_folders"
FORM = re.compile(r"(?:ensure|restart)(?:_[a-z][a-z0-9]*)+")


class Kinds(Mapping[str, type[Task[Any]]]):
    """Kinds of task by their keys; a class is imported when it is asked for.

    Installed packages are looked through only for a name that nothing else has.

    Args:
        catalogue: nbprovision's own kinds.
        files: Reads the files of tasks, and records them as files of the playbook.
        looked_at: Gets the files that show whether a package has changed.
        paths: The files of tasks by kind.

    Attributes:
        complete: Whether a kind that is not among them is unknown; no longer after a fault of a folder.

    """

    complete = True

    def __init__(
        self,
        catalogue: Mapping[str, type[Task[Any]]],
        files: Files,
        looked_at: dict[Path, bool] | None = None,
        paths: Mapping[str, Path] | None = None,
    ) -> None:
        self.own = catalogue
        self.paths: Mapping[str, Path] = paths or {}
        self._files = files
        self._looked_at = {} if looked_at is None else looked_at
        self._loaded: dict[str, type[Task[Any]] | InvalidPlaybook] = {}

    def __getitem__(self, kind: str) -> type[Task[Any]]:
        """Return the class.

        Raises:
            InvalidPlaybook: its code cannot be used.

        """
        if kind in self.own:
            return self.own[kind]
        if kind not in self._loaded:
            path = self.paths.get(kind)
            try:
                self._loaded[kind] = self._packaged(kind) if path is None else self._of_file(kind, path)
            except InvalidPlaybook as error:  # each use of it is the same fault
                self._loaded[kind] = error
        loaded = self._loaded[kind]
        if isinstance(loaded, InvalidPlaybook):
            raise loaded
        return loaded

    def __contains__(self, kind: object) -> bool:
        if not isinstance(kind, str):
            return False
        return kind in self.own or kind in self.paths or (bool(FORM.fullmatch(kind)) and kind in self.packaged)

    def __iter__(self) -> Iterator[str]:
        return iter(dict.fromkeys((*self.own, *self.paths, *self.packaged)))

    def __len__(self) -> int:
        return len({*self})

    @cached_property
    def packaged(self) -> dict[str, list[EntryPoint]]:
        """The entry points of installed packages by kind."""
        from importlib.metadata import entry_points  # takes longer than a run with nothing to do

        by_kind: dict[str, list[EntryPoint]] = {}
        for entry in entry_points(group=GROUP):
            if FORM.fullmatch(entry.name) and entry.name not in self.own:
                by_kind.setdefault(entry.name, []).append(entry)
        return dict(sorted(by_kind.items()))

    def with_folders(self, folders: Mapping[Path, Position | None]) -> Kinds:
        """Return the same with the tasks in folders.

        Args:
            folders: The folders, each with the position of its name.

        Raises:
            InvalidPlaybook: this process is root's, a folder is missing or has no task, or a task has the name of
                another one.

        """
        if not folders:
            return self
        if trust.applies():
            raise InvalidPlaybook(
                f"root does not use {KEYWORD}",
                cause="root runs no code that lies beside a playbook",
                cure="run it as the notebook's user: runuser -u USER -- nbprovision ...\n"
                f"or make a package of the tasks, with entry points in {GROUP}",
                position=next(iter(folders.values())),
            )
        paths: dict[str, Path] = {}
        for folder, position in folders.items():
            for kind, path in self._in_folder(folder, position).items():
                start = Position(str(path), 1, 1)
                if kind in self.own:
                    cause = "a playbook must mean the same on every machine"
                    message = f"nbprovision has a task {kind} of its own"
                    raise InvalidPlaybook(message, cause=cause, cure="rename the file and its class", position=start)
                if kind in paths:
                    cure = "rename one of the files and its class"
                    raise InvalidPlaybook(f"{paths[kind]} has the task {kind} too", cure=cure, position=start)
                paths[kind] = path
        return Kinds(self.own, self._files, self._looked_at, paths)

    def incomplete(self) -> Kinds:
        """Return the same as an incomplete list."""
        kinds = Kinds(self.own, self._files, self._looked_at, self.paths)
        kinds.complete = False
        return kinds

    def of_playbook(self, path: Path, kind: str | None) -> Kinds:
        """Return the same with the tasks in the folders that a playbook names.

        Args:
            path: The playbook.
            kind: A task; the first play that has it decides.

        Raises:
            InvalidPlaybook: the file is not YAML, or as `with_folders` raises it.

        """
        node = self._files.nodes(path)
        plays = [play for play in node.items if isinstance(play, MapNode)] if isinstance(node, ListNode) else []
        every = [self.with_folders(folders_of(play.get(KEYWORD), path)) for play in plays]
        every.sort(key=lambda kinds: (kind not in kinds.paths, not kinds.paths))
        return every[0] if every else self

    def others(self) -> dict[str, str]:
        """The kinds that are not nbprovision's own, each with its origin in words; nothing is imported."""
        files = {kind: str(path) for kind, path in self.paths.items()}
        packages = {kind: f"of the package {_named(entries[0])}" for kind, entries in self.packaged.items()}
        return {**packages, **files}

    def _in_folder(self, folder: Path, position: Position | None) -> dict[str, Path]:
        try:
            names = self._files.names(folder)
        except InvalidPlaybook as error:
            raise error.at(position) from None
        stems = {name.removesuffix(".py") for name in names if name.endswith(".py")}
        paths = {kind: folder / f"{kind}.py" for kind in sorted(stems) if FORM.fullmatch(kind)}
        if not paths:
            raise InvalidPlaybook(
                f"the folder {folder} has no task",
                cause="a task is a file ensure_NAME.py; NAME has small letters, digits and single underscores",
                cure=f"nbprovision new-task ensure_NAME --folder {folder}",
                position=position,
            )
        return paths

    def _of_file(self, kind: str, path: Path) -> type[Task[Any]]:
        from nbprovision.playbook import task_code  # most playbooks have no such task

        return task_code.from_file(kind, path, self._files.data(path, "task"))

    def _packaged(self, kind: str) -> type[Task[Any]]:
        entries = self.packaged.get(kind)
        if not entries:
            raise KeyError(kind)
        packages = [_named(entry) for entry in entries]
        if len(entries) > 1:
            message, cure = f"two packages have a task {kind}", "uninstall one of them"
            raise InvalidPlaybook(message, cause=" and ".join(sorted(packages)), cure=cure)
        from nbprovision.playbook import task_code

        task, path = task_code.from_package(kind, entries[0].load, packages[0])
        files = (entries[0].dist.files or ()) if entries[0].dist else ()
        versions = (Path(str(file.locate())) for file in files if file.name in ("METADATA", "PKG-INFO"))
        self._looked_at.update({file: file.exists() for file in (path, *versions)})
        return task


def _named(entry: EntryPoint) -> str:
    return f"{entry.dist.name} {entry.dist.version}" if entry.dist is not None else entry.value


def folders_of(node: Node | None, file: Path) -> dict[Path, Position | None]:
    """Return the folders that ``task_folders`` of a play names, each with the position of its name.

    Args:
        node: The value of the keyword.
        file: The file of the play, at whose folder relative paths begin.

    Raises:
        InvalidPlaybook: the value is not a path or a list of paths.

    """
    if node is None or is_nothing(node):
        return {}
    folders: dict[Path, Position | None] = {}
    for item in node.items if isinstance(node, ListNode) else (node,):
        text = item.value if isinstance(item, Scalar) else None
        if not isinstance(text, str) or not text:
            message = f"'{KEYWORD}' takes a path or a list of paths, not {kind_of(item)}"
            raise InvalidPlaybook(message, cure=f"write {KEYWORD}: [tasks]", position=item.position)
        if "{{" in text or "{%" in text:
            raise InvalidPlaybook(
                f"'{KEYWORD}' takes no template",
                cause="`lint`, `doc` and an editor know the tasks without the values of variables",
                cure="write the path; a relative one begins at the playbook",
                position=item.position,
            )
        folders.setdefault(Path(os.path.normpath(file.parent / Path(text).expanduser())), item.position)
    return folders
