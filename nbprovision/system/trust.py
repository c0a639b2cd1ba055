"""Root obeys nobody: the one judge of every path that a process of root's runs, imports from, obeys or writes to.

A path is trusted when nobody but root can change what it leads to. Each component on the way, and each symbolic link
with the way that it leads, must be owned by root and not writable for a group (unless that is root's) or for others.
The group bits of a file with a POSIX ACL are its mask (acl(5)), so they cover what the ACL grants.
In a folder of root's with the sticky bit, such as /tmp, others can replace nothing that is root's (inode(7)): it may be
passed through to an entry of root's, but root does not obey the folder itself, nor a name that is still free in it.

A verdict stays true: only root can make a trusted path untrusted. So a path is judged before it is used, not after.
All this holds only where the effective user is root; for anybody else the kernel's permissions decide.
"""

from __future__ import annotations

import grp
import os
import pwd
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from nbprovision.model.errors import NotTrusted
from nbprovision.system.reading import read_bytes

_MOST_LINKS = 40  # the kernel's own limit: path_resolution(7)
# Below a prefix: what its Python and conda obey, the folders of which every entry is obeyed as well (of libraries those
# that are shared), and those that Python imports from, with all that is in them however deep. Debian's Python imports
# from /usr/local too (https://wiki.debian.org/Python).
_OBEYED = ("bin", "lib", "pyvenv.cfg", ".condarc", "condarc", "condarc.d", "etc")
_ENTRIES = ("conda-meta/*", "etc/conda/activate.d/*", "condarc.d/*", "lib/*.so", "lib/*.so.*")
_IMPORTED = ("lib*/python*", "local/lib*/python*")
_PACKAGES = ("site-packages", "dist-packages")
_OWN_TESTS = "test"  # beside the standard library: a third of Python's files, which nothing imports
_SHARED = stat.S_IWGRP | stat.S_IWOTH
_trusted: set[tuple[str, bool]] = set()  # the environments that this process has judged already, and if with packages


class Fault(NamedTuple):
    """A component of a path that somebody other than root can change: its status, and who can change it, in words."""

    path: str
    status: os.stat_result
    reason: str


def applies() -> bool:
    """Whether this process is root's, so that paths must be judged."""
    return os.geteuid() == 0


def obey(path: str | Path, deed: str = "use") -> None:
    """Judge a file or folder whose content decides what root does; one that is missing must be for root to make.

    Args:
        path: A relative one starts at the working folder.
        deed: What root would do with it, for the message.

    Raises:
        NotTrusted: somebody other than root can change it.

    """
    _refuse(path, deed, fault(path))


def write(path: str | Path) -> None:
    """Judge the folder of an entry that root makes, replaces or removes; a link at the path itself is not followed.

    Raises:
        NotTrusted: the folder is not root's alone, so the entry would lie among somebody else's.

    """
    place(os.path.dirname(path) or ".", "write to")


def place(folder: str | Path, deed: str = "use") -> None:
    """Judge a folder for root's entries; a sticky one of root's will do, and a missing one may be made in such.

    Raises:
        NotTrusted: somebody other than root can change it, or what root puts there.

    """
    _refuse(folder, deed, fault(folder, shared=True))


def environment(prefix: str | Path, deed: str = "use", *, packages: bool = True) -> None:
    """Judge a Python or conda environment, or a folder that takes packages, before root runs or changes it.

    Judged are the prefix, its configuration, all that is in the folders that its Python imports from, however deep, and
    what its activation reads; for a virtual environment those of the Python that it was made from as well
    (https://docs.python.org/3/library/site.html). Each is judged once a process, as 30,000 files take 0.15 s.

    Args:
        prefix: The environment.
        deed: What root would do with it, for the message.
        packages: Whether its packages are imported; those below a virtual environment of its own are not
            (``has_own_packages_only``), and they are most of the files of a large installation.

    Raises:
        NotTrusted: somebody other than root can change one of them.

    """
    if not applies():
        return
    if not os.path.lexists(prefix):
        place(prefix, deed)
        return
    root = os.path.abspath(prefix)
    if (root, True) in _trusted or (root, packages) in _trusted:
        return
    _refuse(prefix, deed, fault(prefix))
    for path in _obeyed(Path(prefix), packages=packages):
        _refuse(prefix, deed, fault(path))
    home = _setting(Path(prefix, "pyvenv.cfg"), "home")
    if home and os.path.isabs(home) and os.path.dirname(home) != os.fspath(prefix):
        environment(os.path.dirname(home), deed, packages=packages and not has_own_packages_only(prefix))
    _trusted.add((root, packages))


def has_own_packages_only(prefix: str | Path) -> bool:
    """Whether an environment is a virtual one that imports no package of the Python that it was made from.

    Without the setting it imports them (https://docs.python.org/3/library/site.html).
    """
    return _setting(Path(prefix, "pyvenv.cfg"), "include-system-site-packages").lower() == "false"


def fault(path: str | Path, *, shared: bool = False) -> Fault | None:
    """The first component on the way to ``path`` that somebody other than root can change; None for a trusted path.

    Args:
        path: A relative one starts at the working folder.
        shared: The path may end at a sticky folder of root's, or at a free name in one.

    """
    if not applies():
        return None
    ahead = _names(os.path.join("" if os.path.isabs(path) else os.getcwd(), path))
    reached, status, links = "/", os.lstat("/"), 0  # never a link, so that `..` is its real parent
    while True:
        reason = _weakness(status)
        if reason and not (_is_sticky(status) and (ahead or shared)):
            return Fault(reached, status, reason)
        if not ahead:
            break
        name = ahead.pop(0)
        entry = os.path.dirname(reached) if name == ".." else os.path.join(reached, name)
        try:
            entry_status = os.lstat(entry)
        except OSError:  # missing, below a file, or on a FUSE mount that keeps root out
            if ".." in ahead:
                return Fault(reached, status, "is the start of a path through a missing folder")
            if reason and not shared:
                return Fault(reached, status, reason)
            break
        if not stat.S_ISLNK(entry_status.st_mode):
            reached, status = entry, entry_status
            continue
        links += 1
        if entry_status.st_uid != 0 or links > _MOST_LINKS:
            return Fault(entry, entry_status, _weakness(entry_status) or "is a link of a circle")
        target = os.readlink(entry)
        ahead = _names(target) + ahead
        if target.startswith("/"):
            reached, status = "/", os.lstat("/")
    return _elsewhere(path, status)


def _elsewhere(path: str | Path, judged: os.stat_result) -> Fault | None:
    """A link of /proc leads to what a process has open, whatever its text says (proc(5)): that is judged by itself."""
    try:
        status = os.stat(path)
    except OSError:
        return None
    reason = "" if os.path.samestat(status, judged) else _weakness(status)
    return Fault(os.fspath(path), status, reason) if reason else None


def _names(path: str) -> list[str]:
    return [name for name in path.split("/") if name not in ("", ".")]


def _is_sticky(status: os.stat_result) -> bool:
    return status.st_uid == 0 and stat.S_ISDIR(status.st_mode) and bool(status.st_mode & stat.S_ISVTX)


def _weakness(status: os.stat_result) -> str:
    """Describe who other than root can change a file with this status; empty for nobody."""
    if status.st_uid != 0:
        return f"is {name_of(status.st_uid)}'s"
    if stat.S_ISLNK(status.st_mode) or stat.S_ISCHR(status.st_mode):
        return ""  # a link's mode means nothing, and nobody reads what another one writes to /dev/null
    if status.st_mode & stat.S_IWOTH:
        return "is writable for everybody"
    if status.st_mode & stat.S_IWGRP and status.st_gid != 0:
        return f"is writable for the group {_group(status.st_gid)}"
    return ""


def _obeyed(prefix: Path, *, packages: bool) -> Iterator[Path]:
    """What an environment obeys beside its prefix; of what is imported only what is not plainly root's."""
    for name in _OBEYED:
        yield prefix / name
    for pattern in _ENTRIES:
        yield from prefix.glob(pattern)
    ways = [folder for pattern in _IMPORTED for folder in prefix.glob(pattern)]
    names = (_OWN_TESTS,) if packages else (_OWN_TESTS, *_PACKAGES)
    left_out = (os.path.join(os.path.realpath(way), name) for way in ways for name in names)
    yield from _imported(ways, set(left_out))


def _imported(ways: list[Path], seen: set[str]) -> Iterator[Path]:
    """Folders that Python imports from, and of all that is in them the links and what somebody else can change.

    Args:
        ways: The folders.
        seen: The real paths that need no check; changed.

    """
    while ways:
        way = ways.pop()
        yield way
        top = os.path.realpath(way)
        ahead = [top] if os.path.isdir(top) else []
        while ahead:
            folder = ahead.pop()
            if folder in seen:
                continue
            seen.add(folder)
            with os.scandir(folder) as entries:
                for entry in entries:
                    status = entry.stat(follow_symlinks=False)
                    kind = stat.S_IFMT(status.st_mode)
                    if kind == stat.S_IFLNK:
                        ways.append(Path(entry.path))
                    elif status.st_uid or (status.st_mode & _SHARED and _weakness(status)):
                        yield Path(entry.path)
                    elif kind == stat.S_IFDIR:
                        ahead.append(entry.path)
                    elif entry.name.endswith(".pth") and folder.endswith("-packages"):
                        for line in _lines(entry.path):
                            if not line.startswith(("#", "import")):
                                yield Path(folder, line)
                                ways += _of_project(os.path.join(folder, line))


def _of_project(folder: str) -> list[Path]:
    """What can be imported from a folder that a .pth file names: that of a project has hidden ones (.git), too."""
    names = os.listdir(folder) if os.path.isdir(folder) else []
    return [Path(folder, name) for name in names if not name.startswith(".")]


def _setting(path: Path, name: str) -> str:
    """The value of ``name`` in a pyvenv.cfg; empty for none."""
    pairs = (line.partition("=") for line in _lines(path))
    return next((value.strip() for key, _, value in pairs if key.strip().lower() == name), "")


def _lines(path: str | Path) -> list[str]:
    try:
        text = read_bytes(path).decode("utf-8", "surrogateescape")
    except OSError:
        return []
    return [line.strip() for line in text.splitlines() if line.strip()]


def _refuse(path: str | Path, deed: str, breach: Fault | None) -> None:
    if breach is None:
        return
    kind = "link" if stat.S_ISLNK(breach.status.st_mode) else f"mode {stat.S_IMODE(breach.status.st_mode):04o}"
    raise NotTrusted(
        f"root does not {deed} {path}",
        cause=f"{breach.path} {breach.reason}, who could change it (owner {name_of(breach.status.st_uid)}, {kind})"
        if breach.status.st_uid != 0
        else f"{breach.path} {breach.reason} (owner root, {kind})",
        cure=cure(breach),
    )


def cure(breach: Fault) -> str:
    """What to do about a fault: run as the owner, or take the permission away."""
    owner = breach.status.st_uid
    if owner == 0:
        return f"if nobody else needs to write there: chmod go-w {breach.path}"
    return f"run it as that user: {as_user(owner)}" if account(owner) else f"run it as the user with the number {owner}"


def as_user(owner: int) -> str:
    """The command that runs another one as ``owner``, in a session without root's terminal (runuser(1), setsid(1))."""
    return f"setsid --wait runuser -u {account(owner)} -- ..."


def name_of(user: int) -> str:
    """A user's name, or the number of one that the user database does not know."""
    return account(user) or f"user {user}"


def account(user: int) -> str | None:
    """The name to log in with; None for a number that the user database does not know, as containers have it."""
    try:
        return pwd.getpwuid(user).pw_name
    except KeyError:
        return None


def _group(group: int) -> str:
    try:
        return grp.getgrgid(group).gr_name
    except KeyError:
        return str(group)
