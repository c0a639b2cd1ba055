"""Repositories that pip cloned for ``-e git+URL``: where a clone came from, which pip's own record does not say.

It writes down the folder of the clone (PEP 610, PEP 660), not the repository and the revision that were asked for. So
nbprovision leaves a mark in the clone. What the user does in the clone (branches, commits) makes no other source of it.
"""

from __future__ import annotations

import re
from pathlib import Path
from urllib.parse import unquote, urlsplit

from nbprovision.system.files import read_text, write_atomically

_MARK = "nbprovision-source"
_FOLDERS = (".git", ".hg", ".svn", ".bzr")
_ORIGIN = re.compile(r'\[remote "origin"\][^\[]*?^\s*url\s*=\s*(\S+)', re.MULTILINE)


def mark(origin: str, url: str) -> None:
    """Write into a clone that it came from ``url``.

    Args:
        origin: Its folder, as ``file:`` URL.
        url: What was asked for: ``git+https://host/path@revision``.
    """
    folder = _administration(origin)
    if folder is not None:
        write_atomically(folder / _MARK, f"{_bare(url)}\n", mode=0o644, durable=False)


def came_from(origin: str, url: str) -> bool:
    """Whether a clone came from ``url``; of one that somebody else made only the repository is known.

    Args:
        origin: Its folder, as ``file:`` URL.
        url: What is asked for.
    """
    folder = _administration(origin)
    if folder is None:
        return False
    marked = read_text(folder / _MARK)
    if marked is not None:
        return marked.strip() == _bare(url)
    found = _ORIGIN.search(read_text(folder / "config") or "")
    return found is not None and f"git+{_bare(found[1])}" == _bare(url)


def _administration(origin: str) -> Path | None:
    path = Path(unquote(urlsplit(origin).path))
    return next((path / name for name in _FOLDERS if (path / name).is_dir()), None)


def _bare(url: str) -> str:
    return re.sub(r"//[^/@]*@", "//", url.partition("#")[0])
