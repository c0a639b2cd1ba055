"""Reads the files with ``@EXPLICIT`` that ``conda list --explicit`` writes: the URL of each package, with its hash.

The format: https://docs.conda.io/projects/conda/en/stable/user-guide/tasks/manage-environments.html, under "Building
identical conda environments". A hash follows ``#``: an MD5, or ``sha256:`` and a SHA-256.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

from nbprovision.conda.exact_packages import LockedPackage
from nbprovision.conda.package_urls import channels_with_credentials, located, on_platform
from nbprovision.model.errors import InvalidPlaybook, Position
from nbprovision.system.secrets import mask
from nbprovision.system.yaml_document import decoded

# A byte order mark may stand before it, and a zero byte beside each character: see `decoded`.
_MARK = re.compile(rb"^(?:\xef\xbb\xbf|\xff\xfe|\xfe\xff)?[ \t]*@EXPLICIT[ \t\r]*$", re.MULTILINE)
_HASH = re.compile(r"(?:md5:)?(?P<md5>[0-9a-f]{32})|(?:sha256:)?(?P<sha256>[0-9a-f]{64})")
_PLATFORM = re.compile(r"#\s*platform:\s*(\S+)")
# conda-lock's comment for a package from PyPI: https://conda.github.io/conda-lock/output, "Explicit lockfile".
_PIP = re.compile(r"#\s*pip\s+(?P<name>[A-Za-z0-9._-]+)(?:\[[^\]]*\])?\s*@\s*(?P<url>\S+)")


class ExplicitFile:
    """The packages of one environment on one platform.

    Args:
        path: The file.
        content: Its content.

    Raises:
        InvalidPlaybook: it is not a text.

    """

    def __init__(self, path: Path, content: bytes) -> None:
        self._path = path
        try:
            self._lines = decoded(content).splitlines()
        except UnicodeDecodeError as error:
            raise self._wrong(1, "is not a text", cause=str(error)) from error
        self._chosen: dict[str, tuple[LockedPackage, ...]] = {}

    @property
    def credentials(self) -> tuple[str, ...]:
        """The channels with credentials in its URLs: ``conda list --explicit --auth`` writes them."""
        return channels_with_credentials(line.partition("#")[0] for _, line in self._entries())

    def listed(self) -> Iterator[tuple[int, LockedPackage]]:
        """The packages, each with its line, whether this machine can install them or not.

        Raises:
            InvalidPlaybook: a line is not the URL of a package.

        """
        for number, line in self._entries():
            yield number, self._package(number, line)

    def packages(self, name: str, subdir: str) -> tuple[LockedPackage, ...]:
        """The packages, for a machine of that platform; the environment may have any name.

        Raises:
            InvalidPlaybook: a line is invalid, or the file is for another platform.

        """
        if subdir not in self._chosen:
            self._chosen[subdir] = tuple(self._packages(subdir))
        return self._chosen[subdir]

    def from_pypi(self, name: str, subdir: str) -> tuple[str, ...]:
        """The locations of the packages from PyPI, which are not conda packages."""
        return tuple(url for _, url in self.distributions)

    @property
    def distributions(self) -> list[tuple[str, str]]:
        """The packages from PyPI, which only conda-lock writes: their names and URLs, in comments for ``pip``."""
        matches = (_PIP.match(line.strip()) for line in self._lines)
        return [(match["name"], match["url"]) for match in matches if match is not None]

    def _packages(self, subdir: str) -> Iterator[LockedPackage]:
        for number, line in enumerate(self._lines, start=1):
            platform = _PLATFORM.match(line.strip())
            if platform is not None and not on_platform(platform[1], subdir):
                raise self._foreign(number, "is", platform[1], subdir)
        names: set[str] = set()
        for number, package in self.listed():
            self._require_hash(number, package)
            if not on_platform(package.subdir, subdir):
                raise self._foreign(number, f"has {package.file_name}, which is", package.subdir, subdir)
            if package.name in names:
                raise self._wrong(number, f"has a second package '{package.name}'", cure="remove one of the two")
            names.add(package.name)
            yield package
        if not names:
            raise self._wrong(1, "has no packages", cure="write it by `conda list --explicit --md5`")

    def _entries(self) -> Iterator[tuple[int, str]]:
        for number, line in enumerate(self._lines, start=1):
            text = line.strip()
            if text and not text.startswith(("#", "@EXPLICIT")):
                yield number, text

    def _package(self, number: int, line: str) -> LockedPackage:
        place, _, digest = line.partition("#")
        try:
            parts = located(place, self._path)
        except ValueError as error:
            raise self._wrong(
                number,
                f"has a line that is not the URL of a package: {mask(line)[:120]}",
                cause=str(error),
                cure="write URL#HASH, as `conda list --explicit --md5` does",
            ) from None
        match = _HASH.fullmatch(digest.strip().lower())
        return LockedPackage(
            name=parts.name,
            version=parts.version,
            build=parts.build,
            subdir=parts.subdir,
            url=parts.url,
            channel=parts.channel,
            sha256=(match["sha256"] if match else None) or "",
            md5=(match["md5"] if match else None) or "",
            complete=False,
        )

    def _require_hash(self, number: int, package: LockedPackage) -> None:
        if package.sha256 or package.md5:
            return
        given = "#" in self._lines[number - 1]
        raise self._wrong(
            number,
            f"has {'an invalid hash' if given else 'no hash'} of {package.name} {package.version}",
            cause="a fetched package can only be verified by its hash",
            cure="write the file by `conda list --explicit --md5`, or append #MD5 or #sha256:SHA256 to the URL",
        )

    def _foreign(self, number: int, what: str, theirs: str, mine: str) -> InvalidPlaybook:
        return self._wrong(
            number,
            f"{what} for {theirs}, and this machine is {mine}",
            cure=f"write it by `conda list --explicit --md5` on a machine with {mine}",
        )

    def _wrong(self, line: int, what: str, cause: str = "", cure: str = "") -> InvalidPlaybook:
        position = Position(str(self._path), line, 1)
        return InvalidPlaybook(f"{self._path} {what}", cause=cause, cure=cure, position=position)


def is_explicit(content: bytes) -> bool:
    """Whether a file has the line ``@EXPLICIT``."""
    return _MARK.search(content.replace(b"\0", b"")) is not None
