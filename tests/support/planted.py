"""Paths with owners and modes, of root's and of a user's, in a place that the user gets to."""

from __future__ import annotations

import contextlib
import os
import pwd
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

USER = pwd.getpwnam("nobody").pw_uid  # a user whom every machine knows
root_only = pytest.mark.skipif(os.geteuid() != 0, reason="only root can give files away, and only root is judged")


@contextlib.contextmanager
def reachable_folder() -> Iterator[Path]:
    """A folder of root's that other users get to."""
    folder = Path(tempfile.mkdtemp(prefix="nbprovision-trust-"))
    folder.chmod(0o755)
    try:
        yield folder
    finally:
        shutil.rmtree(folder)


def folder(path: Path, *, owner: int = 0, group: int = 0, mode: int = 0o755) -> Path:
    path.mkdir()
    os.chown(path, owner, group)
    path.chmod(mode)
    return path


def file(path: Path, text: str = "", *, owner: int = 0, group: int = 0, mode: int = 0o755) -> Path:
    path.write_text(text)
    os.chown(path, owner, group)
    path.chmod(mode)
    return path


def link(path: Path, target: str | Path, *, owner: int = 0) -> Path:
    path.symlink_to(target)
    os.chown(path, owner, owner, follow_symlinks=False)
    return path


def users_folder(base: Path) -> Path:
    return folder(base / "user", owner=USER, group=USER)
