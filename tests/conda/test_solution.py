"""No conda package is linked whose bytes are not those that its channel's index tells of."""

from __future__ import annotations

import functools
import http.server
import json
import os
import shutil
import tarfile
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from nbprovision.conda import solution
from nbprovision.conda.ensure_conda_env import EnsureCondaEnv
from nbprovision.conda.query import Package
from nbprovision.conda.solution import MARK
from nbprovision.machine.machine import Machine
from nbprovision.model.errors import TaskFailed
from tests.support.conda_packages import TinyChannel
from tests.support.driver import converge, planned

pytestmark = pytest.mark.engine

FILE = "alpha-1.0-0.tar.bz2"


@pytest.fixture
def tiny(tmp_path: Path) -> TinyChannel:
    made = TinyChannel(tmp_path / "channel")
    made.add("alpha", "1.0")
    made.add("beta", "1.0", depends=["alpha"])
    return made


@pytest.fixture
def served(tiny: TinyChannel) -> Iterator[str]:
    """The URL of a server of the same channel."""
    handler = functools.partial(http.server.SimpleHTTPRequestHandler, directory=str(tiny.path))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_address[1]}"
        server.shutdown()


@pytest.fixture
def evil(tmp_path: Path) -> Path:
    """A package of the same name, version and build, with something else in it."""
    made = TinyChannel(tmp_path / "other")
    made.add("alpha", "1.0", files={"share/alpha.txt": "something else\n"})
    return tmp_path / "other/noarch" / FILE


@pytest.fixture(params=["own cache", "conda's cache"])
def cache(request: pytest.FixtureRequest, machine: Machine, home: Path, tmp_path: Path) -> Path:
    """Where packages are kept: the tool's folder, or one that conda's configuration names."""
    if request.param == "own cache":
        return machine.cache / "pkgs"
    (home / ".condarc").write_text(f"pkgs_dirs: [{tmp_path}/pkgs]\n")
    return tmp_path / "pkgs"


def env_of(url: str, name: str = "x") -> EnsureCondaEnv:
    return EnsureCondaEnv(name=name, packages=["beta"], channels=[url])


def text(machine: Machine, name: str = "x") -> str:
    return (machine.home / "envs" / name / "share/alpha.txt").read_text()


def unpack(archive: Path, cache: Path) -> Path:
    folder = cache / "alpha-1.0-0"
    folder.mkdir(parents=True)
    with tarfile.open(archive) as stream:
        # PEP 706 came with 3.11.4: Debian's Python is older.
        stream.extractall(folder, **({"filter": "data"} if hasattr(tarfile, "data_filter") else {}))
    return folder


@pytest.mark.parametrize("harm", ["replaced", "cut", "a byte more"])
def test_an_archive_that_is_not_the_indexes_is_refused(
    tiny: TinyChannel, evil: Path, machine: Machine, harm: str
) -> None:
    """In the run and in a check, before anything is linked; where it is as it was again, it is installed."""
    archive = tiny.path / "noarch" / FILE
    good = archive.read_bytes()
    archive.write_bytes({"replaced": evil.read_bytes(), "cut": good[:-9], "a byte more": good + b"x"}[harm])
    for act in (planned, converge):
        machine.applies = act is converge
        with pytest.raises(TaskFailed) as caught:
            act(env_of(tiny.url), machine)
        assert str(archive) in caught.value.cause
        assert "its sha256 is" in caught.value.cause
        assert "index" in caught.value.cure
    assert not (machine.home / "envs/x/share").exists()
    assert not list((machine.home / "envs/x/conda-meta").glob("*.json"))
    archive.write_bytes(good)
    shutil.rmtree(machine.home / "envs")
    machine.forget()
    converge(env_of(tiny.url), machine)
    assert text(machine) == "alpha 1.0\n"


def test_an_older_index_has_an_md5_only(tiny: TinyChannel, evil: Path, machine: Machine) -> None:
    index = tiny.path / "noarch/repodata.json"
    document = json.loads(index.read_text())
    for package in document["packages"].values():
        del package["sha256"]
    index.write_text(json.dumps(document))
    (tiny.path / "noarch" / FILE).write_bytes(evil.read_bytes())
    machine.applies = True
    with pytest.raises(TaskFailed, match="alpha"):
        converge(env_of(tiny.url), machine)


@pytest.mark.parametrize("by_server", [False, True], ids=["a folder", "a server"])
@pytest.mark.parametrize("beside", ["nothing", "record", "record and archive"])
def test_what_lies_unpacked_in_a_cache_from_other_bytes_is_unpacked_again(
    tiny: TinyChannel, served: str, evil: Path, machine: Machine, cache: Path, by_server: bool, beside: str
) -> None:
    folder = unpack(evil, cache)
    record = json.loads((tiny.path / "noarch/repodata.json").read_text())["packages"][FILE]
    if beside == "record" and by_server:  # conda wrote down which bytes it downloaded
        record["sha256"] = "0" * 64
    if beside != "nothing":
        (folder / "info/repodata_record.json").write_text(json.dumps({**record, "fn": FILE}))
    if beside == "record and archive":
        shutil.copy(evil, cache)
    machine.applies = True
    converge(env_of(served if by_server else tiny.url), machine)
    assert text(machine) == "alpha 1.0\n"


def test_what_is_known_is_neither_hashed_nor_unpacked_again(
    tiny: TinyChannel, machine: Machine, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    machine.applies = True
    converge(env_of(tiny.url), machine)
    folder = cache / "alpha-1.0-0"
    before = folder.stat().st_ino
    assert len((folder / MARK).read_text().strip()) == 64
    monkeypatch.setattr(solution, "_fault", None)
    again = Machine(machine.env, home=machine.home, root=machine.root)
    again.applies = True
    converge(env_of(tiny.url, "y"), again)
    assert (folder.stat().st_ino, text(machine, "y")) == (before, "alpha 1.0\n")
    assert os.stat(folder / "share/alpha.txt").st_nlink == 3, "both environments share it with the cache"


def test_the_engine_conda_gets_nothing_else_from_its_caches_either(
    tiny: TinyChannel, evil: Path, machine: Machine, tmp_path: Path
) -> None:
    """It tells less of what it would link: what its cache says of a package counts then."""
    good = (tiny.path / "noarch" / FILE).read_bytes()
    digest = json.loads((tiny.path / "noarch/repodata.json").read_text())["packages"][FILE]["sha256"]
    package = Package("alpha", "1.0", "0", channel="https://conda.example/channel")
    for harmed in (False, True):
        cache = tmp_path / f"pkgs-{harmed}"
        folder = unpack(evil, cache)
        (folder / "info/repodata_record.json").write_text(json.dumps({"sha256": digest}))
        (cache / FILE).write_bytes(evil.read_bytes() if harmed else good)
        solution.admit(machine, [package], [cache])
        assert (folder.exists(), (cache / FILE).exists()) == (not harmed, not harmed)
