"""One conda package, from files in memory to a ``.conda`` file.

Format: https://docs.conda.io/projects/conda/en/stable/user-guide/concepts/packages.html and CEP 35 (``.conda``): an
uncompressed zip of a metadata file and two zstd-compressed tars, one for the files and one for ``info/``.
"""

from __future__ import annotations

import hashlib
import io
import json
import os
import re
import sys
import tarfile
import time
import zipfile
from pathlib import Path
from types import ModuleType
from typing import Any, Literal

from nbprovision.model.errors import TaskFailed
from nbprovision.system.files import temporary_beside

# The text in the place of the prefix until the package is linked. It is long, like conda-build's, so that a prefix of
# up to 255 characters can replace it.
PLACEHOLDER = "/opt/placeholder" + "_placehold" * 23 + "_end"
NATIVE = f"linux-{'aarch64' if os.uname().machine == 'aarch64' else '64'}"
_MACHINE = "aarch64" if NATIVE.endswith("aarch64") else "x86_64"
# One time for all files, so that the same input gives the same bytes.
_EPOCH = 1_700_000_000
# Python takes its compiled file for that of a new source if both sources have the same size and time (PEP 552).
_SOURCES_APART = 365 * 24 * 3600  # seconds before that time
# The times of a zip are those of FAT: two seconds apart, from 1980 to 2107.
_ZIP_TIMES = (315_532_800, 4_354_819_198)
_LEVEL = 1  # zstd; level 19 takes fifteen times as long and saves a fifth


def build_time() -> int:
    """The latest time of a package's files, in seconds since 1970: a fixed one, or that of SOURCE_DATE_EPOCH.

    https://reproducible-builds.org/specs/source-date-epoch/

    Raises:
        TaskFailed: the variable does not hold a number of seconds.
    """
    text = os.environ.get("SOURCE_DATE_EPOCH")
    if text is None:
        return _EPOCH
    if not re.fullmatch(r"[0-9]{1,10}", text, re.ASCII):
        raise TaskFailed(
            f"SOURCE_DATE_EPOCH is '{text[:40]}'",
            cause="it must be a number of seconds since 1970",
            cure="set it to such a number (`git log -1 --format=%ct` prints one), or unset it",
        )
    return int(text)


class Package:
    """The files and the index entry of a package.

    Args:
        name: The conda name.
        version: Its version.
        build: The build string.
        noarch: ``python`` for files below ``site-packages`` of any Python, ``generic`` for data; None for this machine.
        depends: Match specs.
        index: Further fields of ``info/index.json``.
    """

    def __init__(
        self,
        name: str,
        version: str,
        build: str,
        *,
        noarch: Literal["python", "generic"] | None = None,
        depends: tuple[str, ...] = (),
        **index: Any,
    ) -> None:
        self.subdir = "noarch" if noarch else NATIVE
        self.noarch = noarch
        self.stem = f"{name}-{version}-{build}"
        self._time = build_time()
        place = {"noarch": noarch} if noarch else {"arch": _MACHINE, "platform": "linux"}
        self._index = {
            "name": name,
            "version": version,
            "build": build,
            "build_number": 0,
            "subdir": self.subdir,
            "depends": sorted(depends),
            "timestamp": self._time * 1000,
            **place,
            **index,
        }
        self.entry_points: list[str] = []
        self.about: dict[str, str] = {}
        self._files: dict[str, tuple[bytes, int, bool]] = {}
        self._links: dict[str, str] = {}

    @property
    def file_name(self) -> str:
        """The package's path below the channel."""
        return f"{self.subdir}/{self.stem}.conda"

    @property
    def paths(self) -> list[str]:
        """The files so far, sorted."""
        return sorted(self._files)

    def content(self, path: str) -> bytes:
        """The bytes of a file."""
        return self._files[path][0]

    def add(self, path: str, content: bytes, *, executable: bool = False, placeholder: bool = False) -> None:
        """Add a file; with ``placeholder``, the prefix will replace `PLACEHOLDER` in it."""
        self._files[path] = (content, 0o755 if executable else 0o644, placeholder)

    def link(self, path: str, target: str) -> None:
        """Add a symbolic link to ``target``, relative to the link's folder."""
        self._links[path] = target

    def write(self, channel: Path) -> Path:
        """Write the package into its subdir of ``channel``, completely or not at all."""
        target = channel / self.file_name
        target.parent.mkdir(parents=True, exist_ok=True)
        temporary = temporary_beside(target)
        date = time.gmtime(min(max(self._time, _ZIP_TIMES[0]), _ZIP_TIMES[1]))[:6]
        try:
            with zipfile.ZipFile(temporary, "w", zipfile.ZIP_STORED) as archive:
                for name, content in (
                    ("metadata.json", b'{"conda_pkg_format_version": 2}'),
                    (f"pkg-{self.stem}.tar.zst", compressed(self._payload())),
                    (f"info-{self.stem}.tar.zst", compressed(self._info())),
                ):
                    archive.writestr(zipfile.ZipInfo(name, date), content)
            temporary.replace(target)
        finally:
            temporary.unlink(missing_ok=True)
        return target

    def _payload(self) -> bytes:
        entries = {path: (content, mode) for path, (content, mode, _) in self._files.items()}
        return self._tar(entries, self._links)

    def _info(self) -> bytes:
        paths = [self._path_entry(path) for path in sorted({*self._files, *self._links})]
        info: dict[str, Any] = {
            "index.json": self._index,
            "paths.json": {"paths": paths, "paths_version": 1},
            "about.json": self.about,
        }
        if self.noarch == "python":
            noarch = {"type": "python", "entry_points": self.entry_points}
            info["link.json"] = {"noarch": noarch, "package_metadata_version": 1}
        files = {f"info/{name}": (json.dumps(value, indent=1).encode(), 0o644) for name, value in info.items()}
        files["info/files"] = ("".join(f"{entry['_path']}\n" for entry in paths).encode(), 0o644)
        return self._tar(files, {})

    def _tar(self, files: dict[str, tuple[bytes, int]], links: dict[str, str]) -> bytes:
        buffer = io.BytesIO()
        with tarfile.open(fileobj=buffer, mode="w", format=tarfile.PAX_FORMAT) as archive:
            for path in sorted({*files, *links}):
                member = tarfile.TarInfo(path)
                member.mtime = self._time
                if path in links:
                    member.type, member.linkname, member.mode = tarfile.SYMTYPE, links[path], 0o777
                    archive.addfile(member)
                else:
                    content, member.mode = files[path]
                    if path.endswith(".py"):
                        member.mtime = _source_time(content, self._time)
                    member.size = len(content)
                    archive.addfile(member, io.BytesIO(content))
        return buffer.getvalue()

    def _path_entry(self, path: str) -> dict[str, Any]:
        if path in self._links:
            # As in conda-build, digest and size are those of the link's target.
            named = os.path.normpath(os.path.join(os.path.dirname(path), self._links[path]))
            content = self._files[named][0] if named in self._files else b""
            kind = "softlink"
        else:
            content, kind = self._files[path][0], "hardlink"
        entry: dict[str, Any] = {
            "_path": path,
            "path_type": kind,
            "sha256": hashlib.sha256(content).hexdigest(),
            "size_in_bytes": len(content),
        }
        if kind == "hardlink" and self._files[path][2]:
            entry |= {"prefix_placeholder": PLACEHOLDER, "file_mode": "text"}
        return entry


def _source_time(content: bytes, latest: int) -> int:
    """The time of a source of Python: in each version another one, and for the same content the same."""
    number = int.from_bytes(hashlib.sha256(content).digest()[:8], "big")
    return latest - number % min(_SOURCES_APART, latest + 1)


def compressed(data: bytes) -> bytes:
    """Compress by zstd; one version of the library gives the same bytes each time."""
    content: bytes = _zstd().compress(data, _LEVEL)
    return content


def decompressed(data: bytes) -> bytes:
    """Decompress what any version of zstd compressed.

    Raises:
        ValueError: it is damaged.
    """
    zstd = _zstd()
    try:
        content: bytes = zstd.decompress(data)
    except zstd.ZstdError as error:
        raise ValueError(str(error)) from None
    return content


def _zstd() -> ModuleType:
    if sys.version_info >= (3, 14):
        from compression import zstd
    else:
        from backports import zstd
    return zstd
