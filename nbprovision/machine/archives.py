"""Archives of packages that are on this machine, by the URLs that lock files have for them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path


class Archives(Mapping[str, Path]):
    """Files that are installed instead of what their URLs lead to.

    Args:
        files: The files by URL.

    """

    def __init__(self, files: Mapping[str, Path] | None = None) -> None:
        self._files = dict(files or {})

    def __getitem__(self, url: str) -> Path:
        return self._files[url]

    def __contains__(self, url: object) -> bool:
        return url in self._files

    def __iter__(self) -> Iterator[str]:
        return iter(self._files)

    def __len__(self) -> int:
        return len(self._files)

    def release(self, urls: Iterable[str]) -> None:
        """Note that these files are installed: copies that were made for it can go."""

    def close(self) -> None:
        """Note that the run is over."""

    def restore(self, folder: Path) -> bool:
        """Put a local channel into its folder.

        Returns:
            Whether these archives have that channel.

        """
        return False
