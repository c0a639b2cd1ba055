"""Python's own byte code is compiled once for all environments, and is never another source's."""

from __future__ import annotations

import os
import resource
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

import pytest

from nbprovision.conda import byte_code
from nbprovision.conda.ensure_conda_env import EnsureCondaEnv
from nbprovision.machine.machine import Machine
from tests.conftest import Channel
from tests.support.conda_environments import env_of, prefix_of
from tests.support.conda_packages import TinyChannel
from tests.support.driver import converge

LIBRARY = f"lib/python{sys.version_info.major}.{sys.version_info.minor}"


def compiled(prefix: Path) -> dict[str, Path]:
    """The compiled files of the standard library in an environment, or of all of it in the cache."""
    return {str(path.relative_to(prefix)): path for path in prefix.glob(f"{LIBRARY}/**/*.pyc")}


def source_of(path: Path) -> Path:
    return path.parents[1] / f"{path.name.partition('.')[0]}.py"


@pytest.mark.engine
class TestEnvironments:
    @pytest.fixture
    def prefixes(self, machine: Machine, channel: Channel) -> list[Path]:
        """Two environments, made one after the other by two processes of the engine."""
        for name in ("one", "two"):
            packages = [f"python={channel.python}"]
            converge(EnsureCondaEnv(name=name, packages=packages, channels=[channel.url]), machine)
        return [machine.home / "envs/one", machine.home / "envs/two"]

    def test_they_share_what_one_of_them_has_compiled(self, prefixes: list[Path]) -> None:
        one, two = map(compiled, prefixes)
        assert f"{LIBRARY}/json/__pycache__/decoder.{sys.implementation.cache_tag}.pyc" in one
        assert one.keys() == two.keys()
        for name, path in one.items():
            assert path.samefile(two[name])
            assert source_of(path).samefile(source_of(two[name])), "a source with the prefix in it is its own"

    def test_python_takes_it_and_shows_the_paths_of_its_own_environment(self, prefixes: list[Path]) -> None:
        code = "import json.decoder; print(json.decoder.__spec__.cached, json.decoder.JSONDecoder.__init__.__code__)"
        words = [prefixes[1] / "bin/python", "-I", "-B", "-v", "-c", code]
        done = subprocess.run(words, env={}, capture_output=True, text=True, check=True)
        cached, _, shown = done.stdout.partition(" ")
        assert f"{cached} matches " in done.stderr
        assert f'"{prefixes[1]}/{LIBRARY}/json/decoder.py"' in shown

    def test_an_edited_source_is_compiled_again(self, prefixes: list[Path]) -> None:
        source = prefixes[1] / LIBRARY / "json/scanner.py"
        text = source.read_text()
        source.unlink()
        source.write_text(f"{text}\nmine = 1\n")
        for prefix, expected in zip(prefixes, ("False", "True"), strict=True):
            words = [prefix / "bin/python", "-I", "-c", "import json.scanner; print(hasattr(json.scanner, 'mine'))"]
            done = subprocess.run(words, env={}, capture_output=True, text=True, check=True)
            assert done.stdout.strip() == expected

    def test_the_cache_has_no_other_file_that_no_package_brought(self, prefixes: list[Path], machine: Machine) -> None:
        [package] = machine.cache.glob(f"pkgs/python-{LIBRARY.removeprefix('lib/python')}*/")
        assert {path.name for path in package.iterdir()} <= {"bin", "include", "info", "lib", "share"}
        assert not list(package.glob("info/.*"))
        kept = {str(path.relative_to(package / byte_code._KEPT)) for path in package.glob("info/**/*.pyc")}
        assert {name.replace("/__pycache__", "") for name in compiled(prefixes[0])} == kept


class Made(NamedTuple):
    """An unpacked package of Python, and an environment with its files by hard links."""

    package: Path
    prefix: Path
    count: Path

    @property
    def starts(self) -> int:
        """How often the environment's Python was started."""
        return len(self.count.read_text().splitlines()) if self.count.exists() else 0


@pytest.fixture
def made(tmp_path: Path) -> Made:
    """The standard library of this Python, started by a script that first runs ``before``."""
    package, prefix = tmp_path / "pkgs/python-1-0", tmp_path / "env"
    standard = Path(os.__file__).parent
    for target in (package, prefix):
        (target / "bin").mkdir(parents=True)
        for folder in ("", "collections", "encodings", "importlib", "json", "re"):
            (target / LIBRARY / folder).mkdir(parents=True)
            for source in sorted((standard / folder).glob("*.py")):
                place = target / LIBRARY / folder / source.name
                if target == package:
                    place.write_bytes(source.read_bytes())
                else:
                    os.link(package / LIBRARY / folder / source.name, place)
    (package / "info").mkdir()
    return Made(package, prefix, tmp_path / "count")


def let_python_be(made: Made, before: str = "") -> None:
    """A Python that takes its sources from the environment, and its extensions from where they are."""
    paths = [str(made.prefix / LIBRARY), *[path for path in sys.path if path.endswith("lib-dynload")]]
    program = f"import sys; sys.path[:] = {paths!r}; exec(sys.argv.pop())"
    (made.prefix / "bin/python").write_text(
        f"#!/bin/sh\necho x >>{made.count}\n{before}\n"
        f'for word; do last=$word; done\nexec {sys.executable} -I -S "$3" "$4" -c "{program}" "$last"\n'
    )
    (made.prefix / "bin/python").chmod(0o755)


def test_it_is_compiled_once_whatever_other_environments_want(made: Made) -> None:
    let_python_be(made)
    for _ in range(3):
        byte_code.share(made.prefix, made.package)
    assert made.starts == 1
    assert f"{LIBRARY}/json/__pycache__/decoder.{sys.implementation.cache_tag}.pyc" in compiled(made.prefix)


@pytest.mark.parametrize("before", ["exit 1", "kill -9 $$", "exec sleep 60"])
def test_a_python_that_does_not_run_is_tried_once(made: Made, before: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(byte_code, "_LIMIT", 0.5)
    let_python_be(made, before)
    for _ in range(3):
        byte_code.share(made.prefix, made.package)
    assert made.starts == 1
    assert compiled(made.prefix) == {}
    assert list(made.package.glob("info/*")) == []


def test_what_a_full_disk_truncated_is_not_shared(made: Made) -> None:
    """A limit of a file's size stands for the disk: Python writes a part of the byte code, without an error."""
    let_python_be(made)
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (8192, before[1]))
    try:
        byte_code.share(made.prefix, made.package)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert made.starts == 1
    for path in compiled(made.prefix).values():  # where Python itself writes no part
        assert path.stat().st_size < 8192


def test_a_source_that_is_the_environments_own_is_left_to_python(made: Made) -> None:
    """One with the prefix in it has another content in each environment, maybe of the same size and second."""
    own = made.prefix / LIBRARY / "json/decoder.py"
    text = own.read_text()
    own.unlink()
    own.write_text(text)
    let_python_be(made)
    byte_code.share(made.prefix, made.package)
    names = {Path(name).name.partition(".")[0] for name in compiled(made.prefix)}
    assert {"scanner", "encoder"} <= names
    assert "decoder" not in names


def test_a_python_that_brings_its_byte_code_is_left_as_it_is(
    machine: Machine, tiny: TinyChannel, tmp_path: Path
) -> None:
    script = f"#!/bin/sh\necho started >>{tmp_path}/count\n"
    brought = f"{LIBRARY}/encodings/__pycache__/ascii.cpython-311.pyc"
    files = {"bin/python": script, f"{LIBRARY}/encodings/__init__.py": "", f"{LIBRARY}/os.py": "", brought: "brought"}
    tiny.add("python", LIBRARY.removeprefix("lib/python"), noarch="", files=files)
    converge(env_of(tiny, "python"), machine)
    assert not (tmp_path / "count").exists()
    assert list(compiled(prefix_of(machine))) == [brought]
