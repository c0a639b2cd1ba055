"""``ensure_file``: a file, a folder or a link, as described."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Annotated, ClassVar, Literal

import msgspec

from nbprovision.files.file_work import (
    FILE_ACTIONS,
    FILE_MODE,
    FOLDER_MODE,
    HABITS,
    FilePlan,
    FileTask,
    FileWork,
    check_mode,
    check_path,
    check_text,
    joined,
    mode_change,
    place_of,
    resolved,
    resources_above,
    written,
)
from nbprovision.machine.machine import Machine
from nbprovision.model.errors import ParameterError, TaskFailed
from nbprovision.model.relations import OneOf, Requires
from nbprovision.model.result import Change
from nbprovision.model.task import Input, Resource, parameter
from nbprovision.system.files import PathState, path_state, tree


class Piece(msgspec.Struct, frozen=True, kw_only=True):
    """One path, what stands there, and what is to: the content of ``source`` where that is not None."""

    path: Path
    place: Path
    found: PathState
    wanted: PathState | None = None
    source: Path | None = None


class FileState(msgspec.Struct, frozen=True, kw_only=True):
    """What is there.

    Attributes:
        pieces: The path, and of a folder that is copied everything in it.
        astray: Whether a link would lead to nothing.
        precious: What would go along with the path, and must not.

    """

    pieces: tuple[Piece, ...]
    astray: bool = False
    precious: str = ""


class EnsureFile(FileTask[FileState], frozen=True, kw_only=True):
    """A file with a content, a copy, a rendered template; or a folder, a link; or nothing at a path.

    Without ``content``, ``src`` or ``template`` a file that is there stays as it is, and an empty one is made where
    there is none. Folders above it are made. What stands at the path and is of another kind is not replaced, but for a
    link: a file takes its place, so that what it names stays as it is.
    """

    relations = (
        OneOf(("content", "src"), required=False),
        Requires("state", "link", ("src",)),
    )
    actions: ClassVar[dict[str, str]] = {
        **FILE_ACTIONS,
        "make folder": "a folder is new",
        "link": "a link is new, or names something else",
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
        **HABITS,
        "directory_mode": "new folders are 0755; remove it",
        "local_follow": "links in a folder are copied as links; remove it",
    }

    path: Annotated[str, parameter("The file, folder or link.", extra={"path": True})]
    content: Annotated[str | None, parameter("The whole content of the file.")] = None
    src: Annotated[
        str | None,
        parameter(
            "A file to copy, or a folder, whose files are copied into the folder `path`; with `state: link` what the "
            "link names, relative to the link's own folder.",
            extra={"path": True, "but_with": ("state", "link")},
        ),
    ] = None
    template: Annotated[
        str | None,
        parameter(
            "A file of text with templates in it, which becomes the content with the playbook's variables.",
            extra={"path": True, "renders": "content"},
        ),
    ] = None
    mode: Annotated[
        str | None,
        parameter(
            'Permissions, in quotes: `"0644"`, or `u=rw,go=r`. Default: as they are; of a new file 0644 (0755 for a '
            "copy of a program), of a new folder 0755."
        ),
    ] = None
    state: Annotated[
        Literal["present", "directory", "link", "absent"],
        parameter("A file (or a copied folder), a folder, a link, or nothing: a folder goes with all that is in it."),
    ] = "present"
    force: Annotated[bool, parameter("`false`: a file that is there stays, whatever is in it.")] = True
    follow: Annotated[bool, parameter("Where the path is a link: change what it names.")] = False
    backup: Annotated[
        bool, parameter("Keep what was there beside the file; its name is the result's `backup_file`.")
    ] = False

    def check(self) -> None:
        """Check what can be known without looking at the machine."""
        for key in ("path", "src", "template"):
            check_path(key, getattr(self, key))
        check_text("content", self.content)
        check_mode("mode", self.mode)
        if self.template is not None and self.content is None:
            raise ParameterError(
                "template",
                "a template has its variables from a playbook",
                cure="in Python, render the text and give it as `content`",
            )
        kinds = [key for key in ("content", "src") if getattr(self, key) is not None]
        if self.state == "link" and (self.content is not None or self.mode is not None):
            key = "mode" if self.mode is not None else "content"
            raise ParameterError(key, f"a link has no {key} of its own", cure=f"remove `{key}`")
        if self.state in ("directory", "absent") and kinds:
            raise ParameterError(
                kinds[0],
                f"'{kinds[0]}' does not go with `state: {self.state}`",
                cure="leave `state` out to copy a folder" if self.state == "directory" else f"remove `{kinds[0]}`",
            )
        if self.path.endswith("/") and (self.content is not None or self.state == "link"):
            raise ParameterError("path", f"'{self.path}' names a folder", cure="write the file's own name behind it")

    # ------------------------------------------------------------------------------------ its place among other tasks

    def target(self, machine: Machine) -> Path:
        """The path of the file."""
        return machine.path(self.path)

    def requires(self, machine: Machine) -> frozenset[Resource]:
        """The environment that it lies in, folders above it, and what is copied."""
        needs = super().requires(machine)
        if self.src is not None and self.state == "present":
            source = machine.path(self.src)
            needs |= {Resource("file", str(source))} | resources_above(source, machine)
        return needs

    def inputs(self, machine: Machine) -> Iterable[Input]:
        """What is copied, and the template."""
        if self.src is not None and self.state == "present":
            yield Input(machine.path(self.src), "src")
        if self.template is not None:
            yield Input(machine.path(self.template), "template")

    def witnesses(self, machine: Machine) -> Iterable[Path]:
        """The file itself, what it is copied from, and of a folder everything that was copied."""
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
        """What stands at the path, and what is to be copied.

        Raises:
            TaskFailed: one of them cannot be read, or there is nothing to copy.

        """
        path = machine.path(self.path)
        place = path
        if self.follow and self.state != "link":
            place = place_of(path, follow=True)
        found = path_state(place)
        if self.state == "absent":
            return FileState(pieces=(Piece(path=path, place=place, found=found),), precious=_kept_by(place, machine))
        if self.state == "link":
            astray = not os.path.exists(path.parent / (self.src or ""))
            return FileState(pieces=(Piece(path=path, place=place, found=found),), astray=astray)
        if self.state == "directory" or self.src is None:
            return FileState(pieces=(Piece(path=path, place=place, found=found),))
        source = machine.path(self.src)
        wanted = path_state(Path(os.path.realpath(source)))
        if wanted.kind not in ("file", "folder"):
            raise _nothing_to_copy(source, wanted)
        first = Piece(path=path, place=place, found=found, wanted=wanted, source=source)
        others = _copies(source, path, place) if wanted.kind == "folder" else ()
        return FileState(pieces=(first, *others))

    def plan(self, state: FileState) -> FilePlan:
        """Compare what stands there with what is described.

        Raises:
            TaskFailed: something of another kind is in the way.

        """
        return joined(self._plan_of(piece, state) for piece in state.pieces)

    def _plan_of(self, piece: Piece, state: FileState) -> FilePlan:
        if self.state == "absent":
            return self._removal(piece, state.precious)
        if self.state == "link":
            return self._link(piece, astray=state.astray)
        if self.state == "directory" or (piece.wanted is not None and piece.wanted.kind == "folder"):
            return self._folder(piece)
        if piece.wanted is not None and piece.wanted.kind == "link":
            return _linked(piece, piece.wanted.target)
        if piece.found.kind == "file" and (not self.force or (self.content is None and piece.wanted is None)):
            return written(piece.path, piece.place, piece.found, data=None, same=True, mode=self.mode)
        if piece.wanted is None:
            data = (self.content or "").encode("utf-8")
            return written(piece.path, piece.place, piece.found, data=data, mode=self.mode, backup=self.backup)
        return written(
            piece.path,
            piece.place,
            piece.found,
            data=piece.wanted.data,
            source=piece.source,
            same=piece.found.content == piece.wanted.content,
            mode=self.mode,
            fresh=FOLDER_MODE if piece.wanted.mode & 0o100 else FILE_MODE,
            backup=self.backup,
        )

    def _removal(self, piece: Piece, precious: str) -> FilePlan:
        found = piece.found
        if found.kind == "nothing":
            return FilePlan()
        if precious:
            raise TaskFailed(f"{piece.path} is not removed", cause=precious, cure="name what is to go more narrowly")
        what = Change("remove", str(piece.path), found.text or found.word, kind="file" if found.text else "other")
        keep = self.backup and found.kind == "file"
        return FilePlan(changes=(what,), work=(FileWork(path=piece.place, do="remove", backup=keep),))

    def _link(self, piece: Piece, *, astray: bool) -> FilePlan:
        made = _linked(piece, self.src or "")
        note = f"there is no {self.src}: the link {piece.path} leads nowhere"
        return msgspec.structs.replace(made, warnings=(note,)) if astray else made

    def _folder(self, piece: Piece) -> FilePlan:
        found = piece.found
        asked = self.mode if self.state == "directory" else None  # of a copied folder the mode is for its files
        if found.kind not in ("nothing", "folder"):
            raise TaskFailed(
                f"{piece.path} is {found.word}, not a folder",
                cause="what is there is kept until a task says that it may go",
                cure=f"write path: {os.path.realpath(piece.path)}, or follow: true"
                if found.kind == "link"
                else "correct the path, or remove what is there by a task with state: absent",
            )
        bits = found.mode if found.kind == "folder" else FOLDER_MODE
        if asked is not None:
            bits = resolved(asked, bits, folder=True)
        if found.kind == "nothing":
            change = Change("make folder", str(piece.path))
            return FilePlan(changes=(change,), work=(FileWork(path=piece.place, do="make folder", mode=bits),))
        changes = tuple(mode_change(piece.path, found, bits))
        return FilePlan(
            changes=changes, work=(FileWork(path=piece.place, do="set mode", mode=bits),) if changes else ()
        )


def _linked(piece: Piece, target: str) -> FilePlan:
    found = piece.found
    if found.kind == "link" and found.target == target:
        return FilePlan()
    if found.kind not in ("nothing", "link"):
        raise TaskFailed(
            f"{piece.path} is {found.word}, not a link",
            cause="what is there is kept until a task says that it may go",
            cure="move it away, or remove it by a task with state: absent before this one",
        )
    change = Change("link", str(piece.path), found.target or None, target)
    return FilePlan(changes=(change,), work=(FileWork(path=piece.place, do="link", target=target),))


def _copies(source: Path, path: Path, place: Path) -> Iterator[Piece]:
    """Everything in a folder, and what stands where it is to be copied."""
    for name in tree(source):
        yield Piece(
            path=path / name,
            place=place / name,
            found=path_state(place / name),
            wanted=path_state(source / name),
            source=source / name,
        )


def _nothing_to_copy(source: Path, found: PathState) -> TaskFailed:
    if found.kind == "other":
        return TaskFailed(f"cannot copy {source}", cause=f"it is {found.word}", cure="name a file or a folder")
    usual = source.parent / "files" / source.name  # where Ansible looks as well
    cure = f"write src: {usual}" if usual.exists() else "correct the path: a relative one begins at the playbook"
    return TaskFailed(f"cannot copy {source}", cause="there is no such file", cure=cure)


def _kept_by(place: Path, machine: Machine) -> str:
    """Why nobody can have meant to remove this, empty where somebody can."""
    volume = machine.platform.volume
    kept = {"the home folder": machine.user_home, "nbprovision's own home": machine.home, "the volume": volume}
    gone = Path(os.path.realpath(place.parent), place.name)
    for what, path in kept.items():
        if path is not None and gone in (there := Path(os.path.realpath(path)), *there.parents):
            return f"{what}, {path}, would go with it"
    return ""
