"""Exact conda packages, as lock files name them: each with the URL and the digest of its archive.

The child process of the built-in engine imports this module too, so it stays light.
"""

from __future__ import annotations

from typing import TYPE_CHECKING
from urllib.parse import unquote, urlsplit

import msgspec

if TYPE_CHECKING:
    from nbprovision.conda.records import Details


class LockedPackage(msgspec.Struct, frozen=True, kw_only=True):
    """A package that an environment is to have, in this very build.

    Attributes:
        url: The URL of its archive, without credentials.
        channel: The URL of its channel.
        sha256: The digest of its archive, in hexadecimal digits; empty if only the other is known.
        md5: Likewise.
        size: The size of its archive in bytes, 0 if it is unknown.
        timestamp: When it was built, in milliseconds since the epoch.
        complete: The fields after `size` are known. If not, they are read from the package itself.

    """

    name: str
    version: str
    build: str
    subdir: str
    url: str
    channel: str
    sha256: str = ""
    md5: str = ""
    size: int = 0
    build_number: int = 0
    noarch: str | None = None
    depends: list[str] = []
    constrains: list[str] = []
    track_features: list[str] = []
    features: str | None = None
    license: str | None = None
    license_family: str | None = None
    timestamp: int | None = None
    python_site_packages_path: str | None = None
    complete: bool = True

    @property
    def file_name(self) -> str:
        """The name of its archive."""
        return unquote(urlsplit(self.url).path.rpartition("/")[2])

    @property
    def stem(self) -> str:
        """The name of its folder in a package cache."""
        return f"{self.name}-{self.version}-{self.build}"

    @property
    def text(self) -> str:
        """A match spec that only this build satisfies."""
        return f"{self.name}=={self.version}={self.build}"

    def is_installed(self, details: Details | None) -> bool:
        """Whether an installed package is this one; digests count where both sides have the same kind."""
        if details is None or (details.version, details.build) != (self.version, self.build):
            return False
        if details.subdir and details.subdir != self.subdir:
            return False
        for mine, theirs in ((self.sha256, details.sha256), (self.md5, details.md5)):
            if mine and theirs:
                return mine == theirs
        return True
