"""Judges every path that a process of root's runs, imports from, obeys or writes to: root obeys nobody else.

A path is trusted when nobody but root can change its target. Each component on the way, and each symbolic link with its
own way, must be owned by root and not writable for a group (unless that is root's) or for others.
The group bits of a file with a POSIX ACL are its mask (acl(5)), so they cover the rights that the ACL grants.
In root's folder with the sticky bit, such as /tmp, others cannot replace root's entries (inode(7)). Such a folder may
be on the way to an entry of root's, but root does not obey the folder itself, nor a name that is still free in it.

A verdict stays true: only root can make a trusted path untrusted. So a path is judged before it is used, not after.
Nothing is judged unless the effective user is root; for anybody else the kernel's permissions decide.
"""

from __future__ import annotations

import grp
import os
import pwd
import re
import stat
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Literal, NamedTuple

from nbprovision.model.errors import NotTrusted
from nbprovision.system.reading import read_bytes
from nbprovision.system.scanning import scanned

_MOST_LINKS = 40  # the kernel's own limit: path_resolution(7)
# Below a prefix: the files that its Python and conda obey, the patterns of further such files (of libraries the shared
# ones), and the folders that Python imports from, at any depth. Debian's Python imports from /usr/local too
# (https://wiki.debian.org/Python).
_OBEYED = ("bin", "lib", "pyvenv.cfg", ".condarc", "condarc", "condarc.d", "etc")
_ENTRIES = ("conda-meta/*", "etc/conda/activate.d/*", "condarc.d/*", "lib/*.so", "lib/*.so.*")
_IMPORTED = ("lib*/python*", "local/lib*/python*")
_PACKAGES = ("site-packages", "dist-packages")
_OWN_TESTS = "test"  # beside the standard library: a third of Python's files, which nothing imports
_SHARED = stat.S_IWGRP | stat.S_IWOTH
# What this process has judged already: environments with and without their packages, the places of environments that
# were missing, and folders of unpacked packages.
_Extent = Literal["whole", "own", "place", "unpacked"]
_trusted: set[tuple[str, _Extent]] = set()

# Variables with lists of paths, and their separators; an empty or relative entry starts at the working folder.
# ld.so(8) takes spaces and semicolons in some of them as well.
_PATH_LISTS = {
    "PATH": ":",
    "LD_LIBRARY_PATH": ":;",
    "LD_PRELOAD": ": ",
    "LD_AUDIT": ":",
    "PYTHONPATH": ":",
    "PYTHONHOME": ":",
    "PYTHONPYCACHEPREFIX": "",
    "PYTHONUSERBASE": "",
    "PYTHONSTARTUP": "",
    "ENV": "",
}
# Beginnings of the names of variables by which programs find code, configuration, caches and certificates.
_PATH_VARIABLES = (
    "AWS_", "BASH_ENV", "CONDA", "CURL_CA", "GCONV_", "GIT_", "IPYTHON", "JUPYTER_", "LD_", "LOCPATH", "MAMBA", "NETRC",
    "NODE_", "OPENSSL_", "PERL", "PIP_", "PYTHON", "REQUESTS_CA", "R_", "SSL_CERT", "UV_", "XDG_C",
)  # fmt: skip
_OF_PYTHON = ("PYTHON", "LD_", "GCONV_", "LOCPATH", "OPENSSL_")  # those that reach this very process
_MOST_SCRIPTS = 5  # scripts that interpret each other: execve(2)
_NEWLINE = re.compile(r"\r\n?|\n")
_LONGEST_FIRST_LINE = 4096  # bytes; the kernel reads 255 of them


class Fault(NamedTuple):
    """A component of a path that somebody other than root can change, with its status and the reason in words."""

    path: str
    status: os.stat_result
    reason: str


def applies() -> bool:
    """Whether this process is root's, so that paths must be judged."""
    return os.geteuid() == 0


def obey(path: str | Path, deed: str = "use") -> None:
    """Judge a file or folder that controls what root does; only root may be able to create a missing one.

    Args:
        path: A relative one starts at the working folder.
        deed: The use that root would make of it, for the message.

    Raises:
        NotTrusted: somebody other than root can change it.

    """
    _refuse(path, deed, fault(path))


def write(path: str | Path) -> None:
    """Judge the folder of an entry that root creates, replaces or removes; a link at the path itself is not followed.

    Raises:
        NotTrusted: somebody other than root can change the folder.

    """
    place(os.path.dirname(path) or ".", "write to")


def place(folder: str | Path, deed: str = "use") -> None:
    """Judge a folder for root's entries; it may be root's with the sticky bit, or a missing one in such a folder.

    Raises:
        NotTrusted: somebody other than root can change it, or root's entries in it.

    """
    _refuse(folder, deed, fault(folder, shared=True))


def environment(prefix: str | Path, deed: str = "use", *, packages: bool = True) -> None:
    """Judge a Python or conda environment, or a folder that takes packages, before root runs or changes it.

    It judges the prefix, its configuration, its activation scripts, and all files that its Python can import,
    but for Python's own tests. For a virtual environment it judges those of the base Python as well
    (https://docs.python.org/3/library/site.html). Each environment is judged once per process, as 30,000 files take
    0.15 s.

    Args:
        prefix: The environment.
        deed: The use that root would make of it, for the message.
        packages: Whether its packages are imported. Those of a base Python may not be (``has_own_packages_only``), and
            they are most of the files of a large installation.

    Raises:
        NotTrusted: somebody other than root can change one of them.

    """
    if not applies():
        return
    root = os.path.abspath(prefix)
    if not os.path.lexists(prefix):
        place(prefix, deed)
        _trusted.add((root, "place"))
        return
    extent: _Extent = "whole" if packages else "own"
    if (root, "whole") in _trusted or (root, extent) in _trusted:
        return
    _refuse(prefix, deed, fault(prefix))
    for path in _obeyed(Path(prefix), packages=packages):
        _refuse(prefix, deed, fault(path))
    home = _setting(Path(prefix, "pyvenv.cfg"), "home")
    if home and os.path.isabs(home) and os.path.dirname(home) != os.fspath(prefix):
        environment(os.path.dirname(home), deed, packages=packages and not has_own_packages_only(prefix))
    _trusted.add((root, extent))


def made(prefix: str | Path, packages: Iterable[str | Path]) -> None:
    """Note that root's engine has linked unpacked packages into an environment that was judged before.

    What the engine itself writes has root's umask, so the modes of the packages' own files decide. Each package is
    judged once per process, not once per environment: then a new environment needs no look of its own. After a package
    that could need one, the whole environment is judged again before its next use.

    Args:
        prefix: The environment.
        packages: The folders of the unpacked packages.
    """
    if not applies():
        return
    root = os.path.abspath(prefix)
    if not are_plain(packages):
        _trusted.difference_update({(root, "whole"), (root, "own")})
    elif (root, "place") in _trusted:
        _trusted.add((root, "whole"))
    _trusted.discard((root, "place"))


def are_plain(packages: Iterable[str | Path]) -> bool:
    """Whether unpacked packages have only what nobody but root can change, and nothing that leads elsewhere.

    Args:
        packages: The folders of the packages. The verdict on each is kept until it is another folder, so `made` has
            no more to do after this.
    """
    return all(_is_plain(os.path.abspath(package)) for package in packages)


def tree(folder: str | Path, deed: str = "work in") -> None:
    """Judge a folder and every entry below it; no link in it is followed, as only its text belongs to the folder.

    Args:
        folder: The folder.
        deed: The use that root would make of it, for the message.

    Raises:
        NotTrusted: somebody other than root can change one of them.

    """
    if not applies():
        return
    obey(folder, deed)
    for place, folders, files in os.walk(folder):
        for name in (*folders, *files):
            entry = os.path.join(place, name)
            status = os.lstat(entry)
            reason = _weakness(status)
            _refuse(entry, deed, Fault(entry, status, reason) if reason else None)


def program(name: str | Path, *, env: Mapping[str, str], cwd: str = "/", depth: int = 0) -> None:
    """Judge a program before it runs, by its path or as found on the PATH; a missing one is not judged.

    Its environment is judged as well, and the interpreter of a script.

    Raises:
        NotTrusted: somebody other than root can change one of them.

    """
    path = find_program(os.fspath(name), env, cwd) if applies() else None
    if path is None:
        return
    obey(path, "run")
    packages = True
    for file in dict.fromkeys([path, os.path.realpath(path)]):
        prefix = os.path.dirname(os.path.dirname(file))
        if os.path.basename(file).startswith("python") or _is_environment(prefix):
            environment(prefix, "run the programs in", packages=packages)
        packages = not has_own_packages_only(prefix)  # for the base Python, the target of a virtual environment's link
    interpreter = _interpreter(path)
    if interpreter and depth < _MOST_SCRIPTS:
        program(interpreter, env=env, cwd=cwd, depth=depth + 1)


def find_program(name: str, env: Mapping[str, str], cwd: str) -> str | None:
    """Return a program's path: as given if it has a slash, else the first executable one on the PATH of ``env``."""
    if "/" in name:
        return os.path.join(cwd, name)
    paths = (os.path.join(cwd, folder, name) for folder in os.get_exec_path(env))
    return next((path for path in paths if os.path.isfile(path) and os.access(path, os.X_OK)), None)


def variables(env: Mapping[str, str], cwd: str, *, of_this_process: bool = False) -> None:
    """Judge the paths in environment variables by which programs find code, configuration and caches.

    Args:
        env: The variables.
        cwd: The working folder.
        of_this_process: Only the variables by which this process found its own code.

    Raises:
        NotTrusted: somebody other than root can change one of the paths.

    """
    for variable, value in env.items() if applies() else ():
        if of_this_process and not variable.startswith(_OF_PYTHON):
            continue
        for path in _paths(variable, value, cwd):
            obey(path, f"obey {variable}, which leads to")


def command(words: Sequence[str], *, env: Mapping[str, str], cwd: str | Path | None, foreign: bool = False) -> None:
    """Judge a command before it starts.

    Args:
        words: Program and arguments.
        env: The whole environment.
        cwd: The working folder; None for the caller's own, which is not judged: the program must not look there.
        foreign: The command is from the playbook's author, who answers for its arguments. The arguments of our own
            commands are environments, files and folders that the program runs, reads or fills.

    Raises:
        NotTrusted: somebody other than root can change what it would run, obey or write to.

    """
    if not applies():
        return
    if cwd is not None:
        place(cwd, "work in")
    cwd = os.getcwd() if cwd is None else os.fspath(cwd)
    variables(env, cwd)
    if os.path.isabs(env.get("TMPDIR", "")):
        place(env["TMPDIR"], "make temporary files in")
    program(words[0], env=env, cwd=cwd)
    for word in [] if foreign else words[1:]:
        path = word.partition("=")[2] if word.startswith("--") else word
        if not os.path.isabs(path) or path == "/dev/stdin":
            continue
        if os.path.isfile(path) and os.access(path, os.X_OK):
            program(path, env=env, cwd=cwd)
        else:
            environment(path)


def has_own_packages_only(prefix: str | Path) -> bool:
    """Whether an environment is a virtual one that does not import the packages of its base Python.

    By default it imports them (https://docs.python.org/3/library/site.html).
    """
    return _setting(Path(prefix, "pyvenv.cfg"), "include-system-site-packages").lower() == "false"


def fault(path: str | Path, *, shared: bool = False) -> Fault | None:
    """The first component of ``path`` that somebody other than root can change; None for a trusted path.

    Args:
        path: A relative one starts at the working folder.
        shared: The path may end at a sticky folder of root's, or at a free name in one.

    """
    if not applies():
        return None
    ahead = _names(os.path.join("" if os.path.isabs(path) else os.getcwd(), path))
    reached, status, links = "/", os.lstat("/"), 0  # never a link, so `..` is its real parent
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


def _paths(variable: str, value: str, cwd: str) -> Iterator[str]:
    if variable == "PYTHONPLATLIBDIR" and "/" in value:  # relative to the interpreter's prefix
        yield from (f"{prefix}/{value}" for prefix in {cwd, sys.prefix, sys.base_prefix})
    elif variable in _PATH_LISTS and value:
        separators = _PATH_LISTS[variable]
        parts = re.split(f"[{separators}]", value) if separators else [value]
        yield from (os.path.join(cwd, part) for part in parts)
    elif variable.startswith(_PATH_VARIABLES):
        yield from filter(os.path.isabs, re.split(r"[\s,:;]+", value))


def _is_environment(prefix: str) -> bool:
    return os.path.exists(f"{prefix}/pyvenv.cfg") or os.path.isdir(f"{prefix}/conda-meta")


def _interpreter(script: str) -> str:
    """The program in a script's first line, after ``env`` if it is there; empty if the file is not a script."""
    try:
        with open(script, "rb") as stream:
            first = stream.readline(_LONGEST_FIRST_LINE)
    except OSError:
        return ""
    words = os.fsdecode(first[2:]).split() if first.startswith(b"#!") else []
    if words and os.path.basename(words[0]) == "env":
        words = [word for word in words[1:] if not word.startswith("-") and "=" not in word]
    return words[0] if words else ""


def _elsewhere(path: str | Path, judged: os.stat_result) -> Fault | None:
    """Judge the target of a link in /proc, which leads to a process's open file whatever its text is (proc(5))."""
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
        return ""  # the mode of a link means nothing, and /dev/null keeps nothing
    if status.st_mode & stat.S_IWOTH:
        return "is writable for everybody"
    if status.st_mode & stat.S_IWGRP and status.st_gid != 0:
        return f"is writable for the group {_group(status.st_gid)}"
    return ""


def _obeyed(prefix: Path, *, packages: bool) -> Iterator[Path]:
    """The paths that an environment obeys, apart from its prefix; of its modules only the suspicious ones."""
    for name in _OBEYED:
        yield prefix / name
    for pattern in _ENTRIES:
        yield from prefix.glob(pattern)
    ways = [folder for pattern in _IMPORTED for folder in prefix.glob(pattern)]
    names = (_OWN_TESTS,) if packages else (_OWN_TESTS, *_PACKAGES)
    left_out = (os.path.join(os.path.realpath(way), name) for way in ways for name in names)
    yield from _imported(ways, set(left_out))


def _imported(ways: list[Path], seen: set[str]) -> Iterator[Path]:
    """Paths that Python imports from; of the entries in folders only links and those that others can change.

    Args:
        ways: Files and folders; used up.
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
            with scanned(folder) as entries:
                for entry in entries:
                    status = entry.stat(follow_symlinks=False)
                    kind = stat.S_IFMT(status.st_mode)
                    if kind == stat.S_IFLNK:
                        ways.append(Path(folder, entry.name))
                    elif status.st_uid or (status.st_mode & _SHARED and _weakness(status)):
                        yield Path(folder, entry.name)
                    elif kind == stat.S_IFDIR:
                        ahead.append(os.path.join(folder, entry.name))
                    elif entry.name.endswith(".pth") and folder.endswith("-packages"):
                        for line in _places(os.path.join(folder, entry.name)):
                            yield Path(folder, line)
                            ways += _of_project(os.path.join(folder, line))


def _places(file: str) -> list[str]:
    """The lines of a .pth file that name places to import from (https://docs.python.org/3/library/site.html).

    A line that begins with a space is neither a comment nor a statement. From 3.13 on, Python passes over a byte order
    mark and splits at more characters.
    """
    try:
        text = read_bytes(file).decode("utf-8", "surrogateescape")
    except OSError:
        return []
    texts = (text, text.removeprefix("\ufeff"))
    lines = {line.rstrip() for part in texts for line in (*part.splitlines(), *_NEWLINE.split(part))}
    return sorted(line for line in lines if line and not line.startswith(("#", "import ", "import\t")))


def _of_project(folder: str) -> list[Path]:
    """The importable entries of a folder in a .pth file: a project has hidden folders (.git), too."""
    names = os.listdir(folder) if os.path.isdir(folder) else []
    return [Path(folder, name) for name in names if not name.startswith(".")]


def _is_plain(package: str) -> bool:
    """Whether only root can change what an unpacked package brings, and it leads nowhere else."""
    try:
        status = os.lstat(package)
    except OSError:
        return False
    # An engine that unpacks it again puts another folder there.
    judged: tuple[str, _Extent] = (f"{package} {status.st_ino} {status.st_ctime_ns}", "unpacked")
    if judged in _trusted:
        return True
    if fault(package):
        return False
    ahead = [package]
    while ahead:
        folder = ahead.pop()
        try:
            with scanned(folder) as entries:
                for entry in entries:
                    status = entry.stat(follow_symlinks=False)
                    kind = stat.S_IFMT(status.st_mode)
                    path = f"{folder}/{entry.name}"
                    if status.st_uid or (status.st_mode & _SHARED and _weakness(status)):
                        return False
                    if kind == stat.S_IFLNK:
                        target = os.path.normpath(os.path.join(folder, os.readlink(path)))
                        if not target.startswith(f"{package}/"):
                            return False
                    elif kind == stat.S_IFDIR:
                        ahead.append(path)
                    elif path.endswith(".pth") and _places(path):
                        return False
        except OSError:
            return False
    _trusted.add(judged)
    return True


def _setting(path: Path, name: str) -> str:
    """The value of ``name`` in a pyvenv.cfg; empty if it is missing."""
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
    """The fix for a fault: run as the owner, or remove the permission."""
    owner = breach.status.st_uid
    if owner == 0:
        return f"if nobody else needs to write there: chmod go-w {breach.path}"
    return f"run it as that user: {as_user(owner)}" if account(owner) else f"run it as the user with the number {owner}"


def as_user(owner: int) -> str:
    """The command prefix to run as ``owner`` in a session without root's terminal (runuser(1), setsid(1))."""
    return f"setsid --wait runuser -u {account(owner)} -- ..."


def name_of(user: int) -> str:
    """A user's name, or the number if the user database has no name."""
    return account(user) or f"user {user}"


def account(user: int) -> str | None:
    """The login name; None if the user database does not contain the number, as in containers."""
    try:
        return pwd.getpwuid(user).pw_name
    except KeyError:
        return None


def _group(group: int) -> str:
    try:
        return grp.getgrgid(group).gr_name
    except KeyError:
        return str(group)
