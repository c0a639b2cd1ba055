"""``ensure_file``: a file, a folder or a link."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Annotated, ClassVar, Literal

import msgspec

from nbprovision.files import file_work
from nbprovision.files.file_work import Backup, FilePlan, FileStep, FileTask, ManagedPath
from nbprovision.machine.machine import Machine
from nbprovision.model.errors import ParameterError, TaskFailed
from nbprovision.model.relations import OneOf, Requires
from nbprovision.model.result import Change
from nbprovision.model.task import Input, Resource, parameter
from nbprovision.system.files import PathState, path_state, tree


class Piece(ManagedPath, frozen=True, kw_only=True):
    """One path, and the entry at ``source`` that is copied to it."""

    wanted: PathState | None = None
    source: Path | None = None


class FileState(msgspec.Struct, frozen=True, kw_only=True):
    """The state of the path, or of a copied folder.

    Attributes:
        pieces: The path, and the content of a copied folder.
        dangling: Whether the target of the link is missing.
        precious: The reason against the removal, or an empty string.

    """

    pieces: tuple[Piece, ...]
    dangling: bool = False
    precious: str = ""


class EnsureFile(FileTask[FileState], frozen=True, kw_only=True):
    """Create, maintain or remove a file, a folder or a link.

    A file gets its content from ``content``, ``src`` or ``template``. If none is given, an existing file keeps its
    content and a missing file is created empty. Missing folders above it are created. A file or folder of another kind
    is not replaced. A link at the path of a file is replaced by the file; its target stays unchanged.
    """

    relations = (
        OneOf(("content", "src"), required=False),
        Requires("state", "link", ("src",)),
    )
    actions: ClassVar[dict[str, str]] = {
        **file_work.FILE_ACTIONS,
        "make folder": "a new folder",
        "link": "a new link, or the target of a link",
    }
    examples: ClassVar[str] = """
- name: Settings of JupyterLab
  ensure_file:
    path: ~/.jupyter/lab/user-settings/@jupyterlab/apputils-extension/themes.jupyterlab-settings
    content: |
      {"theme": "JupyterLab Dark"}
- name: A file that only its owner reads
  ensure_file:
    path: ~/.netrc
    mode: "0600"
- name: A folder for results
  ensure_file:
    path: ~/results
    state: directory
- name: A link to it
  ensure_file:
    path: ~/latest
    src: results
    state: link
- name: Nothing is left of an earlier set-up
  ensure_file:
    path: ~/old-setup.sh
    state: absent
"""
    habits: ClassVar[dict[str, str]] = {
        **file_work.HABITS,
        "directory_mode": "remove it; new folders are 0755",
        "local_follow": "remove it; links in a folder are copied as links",
    }

    path: Annotated[str, parameter("The file, folder or link.", extra={"path": True})]
    content: Annotated[str | None, parameter("The whole content of the file.")] = None
    src: Annotated[
        str | None,
        parameter(
            "A file to copy, or a folder whose files are copied into the folder `path`; with `state: link` the target "
            "of the link, relative to the link's own folder.",
            extra={"path": True, "but_with": ("state", "link")},
        ),
    ] = None
    template: Annotated[
        str | None,
        parameter(
            "A text file with templates, rendered with the playbook's variables.",
            extra={"path": True, "renders": "content"},
        ),
    ] = None
    mode: Annotated[
        str | None,
        parameter(
            'Permissions, in quotes: `"0644"`, or `u=rw,go=r`. Default: unchanged; 0644 for a new file (0755 for a '
            "copy of a program), 0755 for a new folder."
        ),
    ] = None
    state: Annotated[
        Literal["present", "directory", "link", "absent"],
        parameter("A file (or a copied folder), a folder, a link, or nothing: a folder is removed with its content."),
    ] = "present"
    force: Annotated[bool, parameter("`false` keeps the content of an existing file.")] = True
    follow: Annotated[bool, parameter("If the path is a link, change the file that it names.")] = False
    backup: Backup = False

    def check(self) -> None:
        """Check the parameters without looking at the machine."""
        for key in ("path", "src", "template"):
            file_work.check_path(key, getattr(self, key))
        try:
            (self.content or "").encode()
        except UnicodeEncodeError:  # of a template, whose result the playbook's reader does not check
            raise ParameterError("content", "'content' contains a lone surrogate, which is not a character") from None
        file_work.check_mode("mode", self.mode)
        if self.template is not None and self.content is None:
            raise ParameterError(
                "template",
                "a template needs the variables of a playbook",
                cure="in Python, render the text and give it as `content`",
            )
        key = "content" if self.content is not None else "src" if self.src is not None else ""
        if self.state == "link" and (self.content is not None or self.mode is not None):
            wrong = "mode" if self.mode is not None else "content"
            raise ParameterError(wrong, f"a link has no {wrong} of its own", cure=f"remove `{wrong}`")
        if self.state in ("directory", "absent") and key:
            cure = "remove `state` to copy a folder" if self.state == "directory" else f"remove `{key}`"
            raise ParameterError(key, f"'{key}' does not go with `state: {self.state}`", cure=cure)
        if self.path.endswith("/") and (self.content is not None or self.state == "link"):
            raise ParameterError("path", f"'{self.path}' names a folder", cure="add the name of the file")

    # ---------------------------------------------------------------------------------- its relations to other tasks

    def target(self, machine: Machine) -> Path:
        """The path of the file."""
        return machine.path(self.path)

    def requires(self, machine: Machine) -> frozenset[Resource]:
        """The environment that contains it, the folders above it, and the copied file or folder."""
        needs = super().requires(machine)
        if self.src is not None and self.state == "present":
            source = machine.path(self.src)
            needs |= {Resource("file", str(source))} | file_work.resources_above(source, machine)
        return needs

    def inputs(self, machine: Machine) -> Iterable[Input]:
        """The copied file or folder, and the template."""
        if self.src is not None and self.state == "present":
            yield Input(machine.path(self.src), "src")
        if self.template is not None:
            yield Input(machine.path(self.template), "template")

    def witnesses(self, machine: Machine) -> Iterable[Path]:
        """The file, its source, and the whole content of a copied folder."""
        path = machine.path(self.path)
        yield path
        if self.src is None:
            return
        source = path.parent / self.src if self.state == "link" else machine.path(self.src)
        yield source
        if self.state == "present" and source.is_dir():
            for name in tree(source):
                yield from (source / name, path / name)

    # ------------------------------------------------------------------------------------------------ the four steps

    def read(self, machine: Machine) -> FileState:
        """Read the path, and the file or folder to copy.

        Raises:
            TaskFailed: one of them cannot be read, or the file to copy is missing.

        """
        path = machine.path(self.path)
        place = file_work.resolve_link(path, follow=True) if self.follow and self.state != "link" else path
        piece = Piece(path=path, place=place, entry=path_state(place))
        if self.state == "absent":
            return FileState(pieces=(piece,), precious=_reason_to_keep(place, machine))
        if self.state == "link":
            return FileState(pieces=(piece,), dangling=not os.path.exists(path.parent / (self.src or "")))
        if self.state == "directory" or self.src is None:
            return FileState(pieces=(piece,))
        source = machine.path(self.src)
        wanted = path_state(Path(os.path.realpath(source)))
        if wanted.kind not in ("file", "folder"):
            raise _nothing_to_copy(source, wanted)
        others = _copies(source, piece) if wanted.kind == "folder" else ()
        return FileState(pieces=(msgspec.structs.replace(piece, wanted=wanted, source=source), *others))

    def plan(self, state: FileState) -> FilePlan:
        """Compare the state with the parameters.

        Raises:
            TaskFailed: something of another kind is in the way.

        """
        return file_work.join_plans(self._plan_of(piece, state) for piece in state.pieces)

    def _plan_of(self, piece: Piece, state: FileState) -> FilePlan:
        if self.state == "absent":
            return self._removal(piece, state.precious)
        if self.state == "link":
            plan = _linked(piece, self.src or "")
            warning = f"there is no {self.src}: the link {piece.path} leads nowhere"
            return msgspec.structs.replace(plan, warnings=(warning,)) if state.dangling else plan
        wanted = piece.wanted
        if self.state == "directory" or (wanted is not None and wanted.kind == "folder"):
            return self._folder(piece)
        if wanted is not None and wanted.kind == "link":
            return _linked(piece, wanted.target)
        if piece.entry.kind == "file" and (not self.force or (self.content is None and wanted is None)):
            return file_work.plan_file(piece, data=None, same=True, mode=self.mode)
        if wanted is None:
            return file_work.plan_file(piece, data=(self.content or "").encode(), mode=self.mode, backup=self.backup)
        return file_work.plan_file(
            piece,
            data=wanted.data,
            source=piece.source,
            same=piece.entry.content == wanted.content,
            mode=self.mode,
            new_mode=file_work.FOLDER_MODE if wanted.mode & 0o100 else file_work.FILE_MODE,
            backup=self.backup,
        )

    def _removal(self, piece: Piece, precious: str) -> FilePlan:
        entry = piece.entry
        if entry.kind == "nothing":
            return FilePlan()
        if precious:
            raise TaskFailed(f"{piece.path} is not removed", cause=precious, cure="name the file or folder to remove")
        kind: Literal["file", "other"] = "file" if entry.text else "other"
        change = Change("remove", str(piece.path), entry.text or entry.word, kind=kind)
        step = FileStep(path=piece.place, do="remove", backup=self.backup and entry.kind == "file")
        return FilePlan(changes=(change,), steps=(step,))

    def _folder(self, piece: Piece) -> FilePlan:
        kind = piece.entry.kind
        if kind not in ("nothing", "folder"):
            cure = "correct the path, or remove it by a task with state: absent"
            if kind == "link":
                cure = f"write path: {os.path.realpath(piece.path)}, or follow: true"
            raise file_work.in_the_way(piece, "a folder", cure)
        bits = piece.entry.mode if kind == "folder" else file_work.FOLDER_MODE
        if self.mode is not None and self.state == "directory":  # the mode of a copied folder is for its files
            bits = file_work.resolve_mode(self.mode, bits, folder=True)
        if kind == "folder":
            return file_work.plan_mode(piece, bits)
        step = FileStep(path=piece.place, do="make folder", mode=bits)
        return FilePlan(changes=(Change("make folder", str(piece.path)),), steps=(step,))


def _linked(piece: Piece, target: str) -> FilePlan:
    entry = piece.entry
    if entry.kind == "link" and entry.target == target:
        return FilePlan()
    if entry.kind not in ("nothing", "link"):
        raise file_work.in_the_way(
            piece, "a link", "move it away, or remove it by a task with state: absent before this one"
        )
    change = Change("link", str(piece.path), entry.target or None, target)
    return FilePlan(changes=(change,), steps=(FileStep(path=piece.place, do="link", target=target),))


def _copies(source: Path, folder: Piece) -> Iterator[Piece]:
    """The content of a folder, and the state of the paths that it is copied to."""
    for name in tree(source):
        place = folder.place / name
        yield Piece(
            path=folder.path / name,
            place=place,
            entry=path_state(place),
            wanted=path_state(source / name),
            source=source / name,
        )


def _nothing_to_copy(source: Path, entry: PathState) -> TaskFailed:
    if entry.kind == "other":
        return TaskFailed(f"cannot copy {source}", cause=f"it is {entry.word}", cure="name a file or a folder")
    usual = source.parent / "files" / source.name  # Ansible searches there, too
    cure = f"write src: {usual}" if usual.exists() else "correct the path: relative paths start at the playbook"
    return TaskFailed(f"cannot copy {source}", cause="there is no such file", cure=cure)


def _reason_to_keep(place: Path, machine: Machine) -> str:
    """The reason why a removal must be a mistake, or an empty string."""
    volume = machine.platform.volume
    kept = {"the home folder": machine.user_home, "nbprovision's own home": machine.home, "the volume": volume}
    removed = Path(os.path.realpath(place.parent), place.name)
    for name, path in kept.items():
        if path is not None and removed in (real := Path(os.path.realpath(path)), *real.parents):
            return f"it would also remove {name}, {path}"
    return ""
