"""Python distributions in an environment, from its folders and files: no process is started.

Sources: PEP 376 and https://packaging.python.org/en/latest/specifications/recording-installed-packages/ (dist-info
folders), https://packaging.python.org/en/latest/specifications/name-normalization/, PEP 610 (direct_url.json), PEP 405
(pyvenv.cfg).
"""

from __future__ import annotations

import contextlib
import functools
import itertools
import os
import re
import stat
from collections.abc import Collection, Iterable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import msgspec

from nbprovision.machine.digests import Digests, digest_of
from nbprovision.system import inputs
from nbprovision.system.inputs import remembered
from nbprovision.system.reading import read_bytes, read_json

DIST_INFO = ".dist-info"
EGG_INFO = ".egg-info"

_NOT_FILES = ("", ".", "..")  # the last parts of paths that lead to folders
_PYTHON_FOLDER = re.compile(r"python3\.(\d+)t?")


class DirectUrl(msgspec.Struct, frozen=True, kw_only=True):
    """The origin of a distribution that was requested by URL or path (PEP 610)."""

    url: str
    subdirectory: str | None = None
    archive_info: dict[str, Any] | None = None
    dir_info: dict[str, Any] | None = None
    vcs_info: dict[str, Any] | None = None

    @property
    def editable(self) -> bool:
        """Whether Python imports it from the source folder itself."""
        return bool((self.dir_info or {}).get("editable"))

    @property
    def hashes(self) -> dict[str, str]:
        """The archive's digests by algorithm, as far as the installer recorded them."""
        info = self.archive_info or {}
        hashes = dict(info.get("hashes") or {})
        algorithm, _, digest = str(info.get("hash") or "").partition("=")
        return {algorithm: digest, **hashes} if digest else hashes


class Distribution(msgspec.Struct, frozen=True, dict=True):
    """An installed distribution, by its folder's name; the content of the folder is read at its first use.

    Attributes:
        name: The normalised name.
        version: The version in the folder's name; for an old egg-info without one, that of its PKG-INFO.
        path: The ``.dist-info`` (or old ``.egg-info``) folder or file.

    """

    name: str
    version: str
    path: Path

    @property
    def legacy(self) -> bool:
        """Whether it is an egg-info, which has no RECORD."""
        return self.path.name.endswith(EGG_INFO)

    @property
    def has_metadata(self) -> bool:
        """Whether METADATA exists; its absence shows a killed install, and makes uv stop."""
        return self.legacy or (self.path / "METADATA").is_file()

    @property
    def broken(self) -> bool:
        """Whether an install of it was interrupted: installers write METADATA early and RECORD last."""
        return not (self.has_metadata and (self.legacy or (self.path / "RECORD").is_file()))

    @property
    def finished(self) -> bool:
        """Whether its installer completed its work: RECORD lists INSTALLER.

        uv links the wheel's own RECORD with its other files. Then it writes the scripts, INSTALLER and the like, and
        last the RECORD that lists all of them.
        """
        if self.legacy or self.installer == "conda":
            return True
        return f"{self.path.name}/INSTALLER" in recorded(self.path)

    @remembered
    def requires(self) -> tuple[str, ...]:
        """Its dependencies: PEP 508 texts with their markers, including those of extras."""
        if not self.legacy:
            return _values(_own_bytes(self.path / "METADATA") or b"", "requires-dist")
        return tuple(_egg_requires(_own_text(self.path / "requires.txt") or ""))

    @remembered
    def installer(self) -> str:
        """The tool that installed it (``uv``, ``pip``, ``conda``); empty if it is not recorded."""
        return (_own_text(self.path / "INSTALLER") or "").strip()

    @property
    def requested(self) -> bool:
        """Whether a user requested it by name."""
        return (self.path / "REQUESTED").exists()

    @remembered
    def direct_url(self) -> DirectUrl | None:
        """Its origin; None for an index."""
        try:
            with inputs.unrecorded():
                return read_json(self.path / "direct_url.json", DirectUrl)
        except (OSError, msgspec.DecodeError):
            return None

    def files_missing(self, *, digests: Digests | None = None) -> list[Path]:
        """Files of its RECORD that are missing or have another size.

        Compiled files may come and go. For a distribution of a conda package, sizes and files outside site-packages do
        not count: conda moves such files and edits prefixes, and its own records cover both.

        Args:
            digests: Also compare the digests, with these.

        """
        base = self.path.parent
        conda = self.installer == "conda"
        missing = []
        for name, digest, size in _rows(_own_text(self.path / "RECORD") or ""):
            if name.endswith(".pyc") or (conda and (name.startswith("..") or os.path.isabs(name))):
                continue
            path = base / name
            try:
                status = path.stat()
            except OSError:
                missing.append(path)
                continue
            resized = size.isdigit() and int(size) != status.st_size
            if not conda and (resized or (digests and digest and not _has_digest(path, status, digest, digests))):
                missing.append(path)
        return missing


def recorded(dist_info: Path) -> list[str]:
    """The paths in a distribution's RECORD, as written: relative ones begin at the folder that holds ``dist_info``."""
    return _names(_own_bytes(dist_info / "RECORD") or b"")


def recorded_folders(dist_info: Path) -> frozenset[str] | None:
    """The folders of the paths in a distribution's RECORD; see `folders_of`."""
    return _folders_in(_own_bytes(dist_info / "RECORD") or b"")


def folders_of(paths: Iterable[str]) -> frozenset[str] | None:
    """The normalised folders of paths, each with the folders above it as far as the path names them.

    Returns:
        The folders; None if the last part of a path is empty, ``.`` or ``..``, and so may be a folder itself.

    """
    written = set()
    for path in paths:
        end = path.rfind("/") + 1
        if path[end:] in _NOT_FILES:
            return None
        written.add(path[:end])
    folders = {"."}
    for folder in written:
        above = os.path.normpath(folder)
        while above and above not in folders:
            folders.add(above)
            above = os.path.dirname(above)
    return frozenset(folders)


@functools.lru_cache(maxsize=512)  # environments with the same distributions have the same records
def _folders_in(record: bytes) -> frozenset[str] | None:
    return folders_of(_names(record))


def _names(record: bytes) -> list[str]:
    text = record.decode("utf-8", "replace")
    if '"' in text or "\0" in text:
        return [name for name, _, _ in _rows(text)]
    # Without quotes a name ends at the first comma; an environment lists ten thousand of them.
    return [name for line in text.splitlines() if (name := line.partition(",")[0])]


@functools.lru_cache(maxsize=4096)  # environments have the same distributions
def normalized(name: str) -> str:
    """The normalised spelling of a distribution's name (PEP 503)."""
    return re.sub(r"[-_.]+", "-", name).lower()


def name_in(requirement: str) -> str:
    """The normalised name in a requirement (PEP 508); empty if it does not begin with one."""
    match = re.match(r"\s*([A-Za-z0-9][A-Za-z0-9._-]*)", requirement)
    return normalized(match[1].rstrip("._-")) if match else ""


def site_packages(prefix: Path) -> Path | None:
    """The folder with the distributions of the Python in ``prefix``; None without one.

    If several Pythons have left a ``lib/python3.*``, the Python in use decides: by pyvenv.cfg, by conda's record of
    python, by the target of ``bin/python``.
    """
    folders = _python_folders(prefix)
    if len(folders) > 1:
        minor = "python" + ".".join((python_version(prefix) or "").split(".")[:2])
        folders = [folder for folder in folders if folder.name.rstrip("t") == minor] or folders
    existing = [folder / "site-packages" for folder in folders if (folder / "site-packages").is_dir()]
    return existing[-1] if existing else None


def python_version(prefix: Path) -> str | None:
    """The version of the Python in ``prefix``: the full one if a file names it, else ``3.X``; None without a Python."""
    config = pyvenv(prefix)
    for key in ("version_info", "version"):  # of virtualenv and uv, of venv
        match = re.match(r"3\.\d+(\.\d+\w*)?", config.get(key, ""))
        if match:
            return match[0]
    with contextlib.suppress(OSError):
        for name in os.listdir(prefix / "conda-meta"):
            match = re.fullmatch(r"python-(3\.[^-]+)-[^-]+\.json", name)
            if match:
                return match[1]
    match = re.fullmatch(r"python(3\.\d+)t?", os.path.basename(os.path.realpath(prefix / "bin/python")))
    if match:
        return match[1]
    folders = _python_folders(prefix)
    return folders[-1].name.removeprefix("python").rstrip("t") if folders else None


def pyvenv(prefix: Path) -> dict[str, str]:
    """The pyvenv.cfg of a virtual environment, keys in lower case; empty if ``prefix`` has none."""
    lines = (_text(prefix / "pyvenv.cfg") or "").splitlines()
    pairs = (line.partition("=") for line in lines if "=" in line)
    return {key.strip().lower(): value.strip() for key, _, value in pairs}


def installed(prefix: Path, names: Collection[str] | None = None) -> dict[str, list[Distribution]]:
    """The distributions in ``prefix`` by normalised name; see `in_folder`."""
    folder = site_packages(prefix)
    return {} if folder is None else in_folder(folder, names)


def in_folder(folder: Path, names: Collection[str] | None = None) -> dict[str, list[Distribution]]:
    """The distributions in a folder by normalised name; two of one name are a fault to repair.

    This function reads only names of folders, so it is cheap.

    Args:
        folder: A site-packages folder, or another one with distributions.
        names: Only distributions with these names.

    """
    distributions: dict[str, list[Distribution]] = {}
    try:
        entries = sorted(os.listdir(folder))
    except (FileNotFoundError, NotADirectoryError):
        return distributions
    for entry in entries:
        # pip renames a distribution that it is about to remove to ~ame-1.0.dist-info; nothing imports that.
        if not entry.endswith((DIST_INFO, EGG_INFO)) or entry.startswith("~"):
            continue
        if names is not None and normalized(entry.partition("-")[0]) not in names:
            continue
        distribution = _distribution(folder / entry)
        if distribution is not None:
            distributions.setdefault(distribution.name, []).append(distribution)
    return distributions


class SharedFile(NamedTuple):
    """A harmed file of one environment, and the same inode in another, by hard link."""

    file: Path
    elsewhere: Path


def harmed_elsewhere(
    distribution: Distribution, others: Iterable[Path], digests: Digests | None = None
) -> Iterator[SharedFile]:
    """Harmed files of a distribution that other environments share by hard link.

    Args:
        distribution: The distribution.
        others: Prefixes of other environments; those with the same version of it count.
        digests: Also compare the content, with these.

    Yields:
        The file with itself, because a cache at least shares it; then the file with each place in another environment.

    """
    name = distribution.path.name
    folders = [folder for prefix in others if (folder := site_packages(prefix)) and (folder / name).is_dir()]
    for file in distribution.files_missing(digests=digests):
        with contextlib.suppress(OSError):
            status = os.lstat(file)
            if status.st_nlink == 1:
                continue
            yield SharedFile(file, file)
            for folder in folders:
                place = folder / os.path.relpath(file, distribution.path.parent)
                if os.path.lexists(place) and os.path.samestat(os.lstat(place), status):
                    yield SharedFile(file, place)


def _distribution(path: Path) -> Distribution | None:
    """The distribution of a ``.dist-info`` or ``.egg-info``; None for a ``.dist-info`` without a version."""
    if path.name.endswith(DIST_INFO):
        name, dash, version = path.name.removesuffix(DIST_INFO).rpartition("-")
        return Distribution(normalized(name), version, path) if dash else None
    name, _, version = path.name.removesuffix(EGG_INFO).partition("-")
    version = re.sub(r"-py\d.*$", "", version)
    if not version:
        metadata = _own_bytes(path / "PKG-INFO" if path.is_dir() else path) or b""
        version = next(iter(_values(metadata, "version")), "0")
    return Distribution(normalized(name), version, path)


def _python_folders(prefix: Path) -> list[Path]:
    """``lib/python3.*`` of ``prefix``, the newest last."""
    try:
        names = os.listdir(prefix / "lib")
    except OSError:
        return []
    minors = sorted((int(match[1]), name) for name in names if (match := _PYTHON_FOLDER.fullmatch(name)))
    return [prefix / "lib" / name for _, name in minors]


def _own_bytes(path: Path) -> bytes | None:
    """The content of a distribution's own file; its folder is the witness."""
    with inputs.unrecorded(), contextlib.suppress(OSError):
        return read_bytes(path)
    return None


def _own_text(path: Path) -> str | None:
    content = _own_bytes(path)
    return None if content is None else content.decode("utf-8", "replace")


def _text(path: Path) -> str | None:
    try:
        return read_bytes(path).decode("utf-8", "replace")
    except OSError:
        return None


def _values(metadata: bytes, header: str) -> tuple[str, ...]:
    """The values of a header in a METADATA or PKG-INFO file, without the long description after the headers."""
    return _values_in(metadata.partition(b"\n\n")[0].partition(b"\n\r\n")[0], header)


@functools.lru_cache(maxsize=1024)  # environments have the same distributions
def _values_in(head: bytes, header: str) -> tuple[str, ...]:
    lines = itertools.takewhile(bool, head.decode("utf-8", "replace").splitlines())
    pairs = (line.partition(":") for line in lines)
    return tuple(value.strip() for name, _, value in pairs if name.lower() == header)


def _egg_requires(text: str) -> Iterator[str]:
    """The requires.txt of an egg-info (sections ``[extra]``, ``[:marker]``, ``[extra:marker]``) as PEP 508 texts."""
    conditions: list[str] = []
    for line in map(str.strip, text.splitlines()):
        if line.startswith("["):
            extra, _, marker = line.strip("[]").partition(":")
            conditions = [f"({marker})"] * bool(marker) + [f'extra == "{extra}"'] * bool(extra)
        elif line and not line.startswith("#"):
            yield f"{line}; {' and '.join(conditions)}" if conditions else line


def _rows(record: str) -> Iterator[tuple[str, str, str]]:
    """The rows of a RECORD: path, digest, size."""
    import csv

    # No name contains a NUL. A field that is too long for csv ends the reading.
    with contextlib.suppress(csv.Error):
        for row in csv.reader(record.replace("\0", "").splitlines()):
            if row and row[0]:
                name, digest, size = (*row, "", "")[:3]
                yield name, digest, size


def _has_digest(path: Path, status: os.stat_result, digest: str, digests: Digests) -> bool:
    import base64
    import hashlib

    algorithm, _, wanted = digest.partition("=")
    if algorithm not in hashlib.algorithms_guaranteed or algorithm.startswith("shake"):
        return True
    if not stat.S_ISREG(status.st_mode):  # reading a pipe would wait forever
        return False
    try:
        actual = digests.of(path, status) if algorithm == "sha256" else digest_of(path, algorithm)
    except OSError:  # Python cannot import an unreadable file either
        return False
    return base64.urlsafe_b64encode(bytes.fromhex(actual)).rstrip(b"=").decode() == wanted
