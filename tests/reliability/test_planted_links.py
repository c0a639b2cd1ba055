"""A link planted at every path that the tool writes: none is followed out, and what it names stays as it is.

The paths are not listed here: a clean run is listened to, and a link is put at each place that it wrote, once to a file or
folder with something precious in it and once to nothing. The user's own folders (`~/.config`, `~/.local`) may be links,
as those who keep their settings elsewhere have them; they are not the tool's. Without `NBPROVISION_TEST_HOSTILE=all` each
place gets one of the two.
"""

from __future__ import annotations

import contextlib
import io
import json
import os
import re
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from unittest import mock

import pytest

from nbprovision.__main__ import main
from tests.support import auditing
from tests.support.conda_packages import TinyChannel

pytestmark = [pytest.mark.engine, pytest.mark.scaled("NBPROVISION_TEST_HOSTILE")]
PLAYBOOK: list[dict[str, Any]] = [
    {"ensure_pip_index": {"url": "http://127.0.0.1:9/simple"}},
    {"ensure_condarc": {"channels": ["team"]}},
    {"ensure_kernel": {"name": "demo", "argv": ["/bin/cat", "{connection_file}"], "environment": {"A": "b"}}},
    {"ensure_conda_env": {"name": "tiny", "channels": ["CHANNEL"], "packages": ["alpha"]}},
]
ALL = os.environ.get("NBPROVISION_TEST_HOSTILE") == "all"
_TEMPORARY = re.compile(r"\.nbprovision-tmp|/\.tmp|\.\d{4,}")


@contextlib.contextmanager
def written() -> Iterator[list[str]]:
    """The places that are written meanwhile."""
    places: list[str] = []

    def hear(event: str, arguments: tuple[Any, ...]) -> None:
        if (event == "open" and auditing.is_write(arguments)) or event == "os.mkdir":
            path = arguments[0]
        elif event in ("os.rename", "os.symlink", "os.link"):
            path = arguments[1]
        else:
            return
        if isinstance(path, (str, bytes, os.PathLike)):
            places.append(os.path.abspath(os.fsdecode(path)))

    with auditing.heard_by(hear):
        yield places


class User:
    """A fresh home each time; packages are fetched once."""

    def __init__(self, env: dict[str, str], folder: Path) -> None:
        self.folder = folder
        self.machine = folder / "machine"
        self.home = self.machine / "home"
        self.tool = self.machine / "tool"
        channel = TinyChannel(folder / "channel")
        channel.add("alpha", "1.0")
        self.playbook = folder / "playbook.yml"
        self.playbook.write_text(json.dumps([{"tasks": PLAYBOOK}]).replace("CHANNEL", channel.url))
        self.without_conda = folder / "without-conda.yml"
        self.without_conda.write_text(json.dumps([{"tasks": PLAYBOOK[:-1]}]))
        self.outside = folder / "outside"
        kept = {name: value for name, value in env.items() if not name.startswith(("PIP_", "UV_"))}
        self.env = {**kept, "HOME": str(self.home), "NBPROVISION_HOME": str(self.tool), "TMPDIR": str(folder / "tmp")}
        (folder / "tmp").mkdir()
        self.fresh()

    def fresh(self) -> None:
        shutil.rmtree(self.machine, ignore_errors=True)
        shutil.rmtree(self.outside, ignore_errors=True)
        self.home.mkdir(parents=True)
        self.outside.mkdir()
        (self.outside / "folder").mkdir()
        for name in ("file", "folder/file"):
            (self.outside / name).write_text("years of work\n")

    def run(self, playbook: Path | None = None) -> tuple[int, str]:
        out = io.StringIO()
        with (
            mock.patch.dict(os.environ, self.env, clear=True),
            mock.patch.object(tempfile, "tempdir", None),
            contextlib.redirect_stdout(out),
            contextlib.redirect_stderr(out),
        ):
            status = main(["run", str(playbook or self.playbook), "-v"])
        return status, out.getvalue()

    def is_untouched(self) -> bool:
        found = {str(path.relative_to(self.outside)) for path in self.outside.rglob("*")}
        words = {path.read_text() for path in self.outside.rglob("file")}
        modes = {path.stat().st_mode & 0o777 for path in self.outside.rglob("file")}
        return found == {"file", "folder", "folder/file"} and words == {"years of work\n"} and modes == {self.mode}

    @property
    def mode(self) -> int:
        return 0o666 & ~self.umask

    @property
    def umask(self) -> int:
        mask = os.umask(0)
        os.umask(mask)
        return mask


@pytest.fixture
def user(env: dict[str, str], tmp_path: Path) -> User:
    return User(env, tmp_path)


def written_by(user: User) -> list[tuple[str, bool]]:
    """The places that a clean run writes, below the machine's folder, and whether each is a folder."""
    with written() as heard:
        status, told = user.run()
    assert status == 0, told
    inside = str(user.machine) + "/"
    names = dict.fromkeys(path.removeprefix(inside) for path in heard if path.startswith(inside))
    # And what the engine wrote, which is another process.
    names.update(dict.fromkeys(str(path.relative_to(user.machine)) for path in user.machine.rglob("*")))
    own = [name for name in names if not _TEMPORARY.search(name) and name not in ("home", "tool")]
    own = [name for name in own if not re.fullmatch(r"home/\.(config|local|conda)(/[a-z]+)*", name)]
    # Of what lies in a package cache and an environment, the top will do: below it all is the engine's.
    own = [
        name for name in own if name.count("/") <= (3 if name.startswith("tool/envs") else 2 if "cache/" in name else 9)
    ]
    return [(name, (user.machine / name).is_dir()) for name in sorted(own)]


def test_no_link_is_followed(user: User) -> None:
    places = written_by(user)
    assert len(places) > 15
    followed = []
    for number, (name, is_folder) in enumerate(places):
        targets = ("folder" if is_folder else "file", "nothing")
        # An engine is started only where it may come by.
        playbook = user.playbook if ALL or re.search(r"conda|env|cache|pkgs", name) else user.without_conda
        for target in targets if ALL else targets[number % 2 : number % 2 + 1]:
            user.fresh()
            link = user.machine / name
            link.parent.mkdir(parents=True, exist_ok=True)
            link.symlink_to(user.outside / target)
            status, told = user.run(playbook)
            assert status in (0, 2), (name, target, told)
            assert "Traceback" not in told, (name, told)
            assert "defect" not in told, (name, told)
            if not user.is_untouched():
                followed.append((name, target, status))
    assert not followed
