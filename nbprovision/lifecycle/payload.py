"""Reads and checks the files that go into a script or a bundle, and keeps their relative paths."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import NamedTuple

import msgspec

from nbprovision.lifecycle.secret_text import refuse_in_file
from nbprovision.model.errors import InvalidPlaybook, Position
from nbprovision.playbook.yaml_nodes import read_file
from nbprovision.system.reading import kind_of, read_bytes

_BOM = b"\xef\xbb\xbf"
_ELSEWHERE = "put it on the notebook's volume or in a bucket, and name it by its absolute path there"


class Container(NamedTuple):
    """What the files are packed into.

    Attributes:
        name: Its name in messages.
        most: The largest number of bytes of a file.
        files: The largest number of files.
        text: It holds nothing but text, in files with ASCII names.

    """

    name: str
    most: int
    files: int
    text: bool


# A script has 12,288 bytes for everything, and compressed text takes about a fifth.
SCRIPT = Container("the script", 64 * 1024, 200, text=True)


class Member(NamedTuple):
    """A file or folder to pack.

    Attributes:
        path: Its absolute path here.
        shown: The same path for messages.
        position: The position of its name.
        document: Whether it is a playbook, a file of tasks or of variables.

    """

    path: Path
    shown: str
    position: Position
    document: bool = False


class Payload(msgspec.Struct, frozen=True):
    """A playbook and the files that it needs.

    Attributes:
        files: Content by path, the playbook first. The paths are relative to the common folder of all files.
        executable: The programs among them, which get mode 0755; the others get 0644.

    """

    files: Mapping[str, bytes]
    executable: frozenset[str] = frozenset()


def pack(members: Iterable[Member], into: Container = SCRIPT) -> tuple[Payload, list[str]]:
    """Read the files, including those of folders.

    Args:
        members: The files and folders, the playbook first.
        into: What they are packed into.

    Returns:
        The payload, and a sentence for each change of a file.

    Raises:
        InvalidPlaybook: a file is not an ordinary file, is too large, has a first line that no system can run, or holds
            a secret; a script has no place for it, as it is not text or has a name that is not printable ASCII; or the
            files share only the root folder.

    """
    files: list[Member] = []
    for file in (file for member in members for file in _files(member, into)):
        files.append(file)
        if len(files) > into.files:
            raise _refused(file, into, f"is one of more than {into.files:,} files", f"{into.name} is small")
    base = os.path.commonpath([file.path.parent for file in files])
    if base == "/" and len(files) > 1:
        far = next(file for file in files if file.path.parts[1] != files[0].path.parts[1])
        raise InvalidPlaybook(
            f"{far.shown} shares no folder with the playbook",
            cause=f"the files keep their relative paths in {into.name}",
            cure="put it into the playbook's folder, or write the absolute path that it has on the machine",
            position=far.position,
        )
    packed, notes = {}, []
    for file in files:
        name = os.path.relpath(file.path, base)
        strange = next((character for character in name if not (character.isascii() and character.isprintable())), None)
        if strange is not None and into.text:
            why = "a script of the platform has nothing but printable ASCII"
            raise _refused(file, into, f"has {strange!r} in its name", why, "rename it")
        content = _content(file, into)
        if file.document:
            if content.startswith(_BOM):
                notes.append(f"{file.shown}: the byte-order mark (BOM) at its beginning is left out")
            if b"\r\n" in content:
                notes.append(f"{file.shown}: its line ends (CRLF, of Windows) become LF")
            content = content.removeprefix(_BOM).replace(b"\r\n", b"\n")
        packed[name] = content
    programs = {os.path.relpath(file.path, base) for file in files if file.path.stat().st_mode & stat.S_IXUSR}
    return Payload(packed, frozenset(programs & packed.keys())), notes


def _files(member: Member, into: Container) -> Iterator[Member]:
    """Return the member, or every file in it if it is a folder."""
    if not member.path.is_dir():
        yield member
        return
    for folder, folders, names in os.walk(member.path):
        folders.sort()
        links = [name for name in folders if os.path.islink(os.path.join(folder, name))]
        for name in sorted((*names, *links)):
            path = Path(folder, name)
            shown = os.path.join(member.shown, os.path.relpath(path, member.path))
            if path.is_symlink():
                raise _refused(member._replace(shown=shown), into, "is a link", "copies of a folder keep its links")
            yield Member(path, shown, member.position)


def _content(file: Member, into: Container) -> bytes:
    """Return the bytes of a file; refuse one that could not work."""
    try:
        status = file.path.stat()
        if not stat.S_ISREG(status.st_mode):
            raise _refused(file, into, f"is {kind_of(status)}", f"only ordinary files can go into {into.name}")
        if status.st_size > into.most:
            raise _refused(
                file, into, f"has {status.st_size:,} bytes", f"a file that goes into {into.name} may have {into.most:,}"
            )
        content = read_bytes(file.path, most=into.most)
    except OSError as error:
        raise _refused(file, into, "cannot be read", error.strerror or str(error), "check its owner: ls -l") from None
    if file.document:
        text = read_file(file.path, "playbook")  # explains UTF-16 and other encodings
    else:
        try:
            text = content.decode()
        except UnicodeDecodeError:
            text = "\0"
        if "\0" in text:
            if not into.text:
                return content
            why = "a script of the platform is small, and is text"
            raise _refused(file, into, f"is not text ({len(content):,} bytes)", why)
    first = content.partition(b"\n")[0]
    if first.startswith(b"#!") and first.endswith(b"\r"):
        raise _refused(
            file,
            into,
            "has line ends of Windows (CRLF)",
            f"its first line would not start: {first[:-1].decode(errors='replace')}^M: bad interpreter",
            "save it with line ends of Linux (LF)",
        )
    refuse_in_file(file.shown, text, into.name)
    return content


def _refused(file: Member, into: Container, problem: str, why: str, cure: str = _ELSEWHERE) -> InvalidPlaybook:
    return InvalidPlaybook(
        f"{file.shown} {problem} and cannot go into {into.name}", cause=why, cure=cure, position=file.position
    )
