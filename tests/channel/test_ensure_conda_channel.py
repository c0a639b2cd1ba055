"""The channel builder with real interpreters, real wheels, and environments made from what it builds."""

from __future__ import annotations

import hashlib
import io
import json
import os
import subprocess
import sys
import tarfile
import time
import zipfile
from pathlib import Path

import pytest

from nbprovision.channel import manifest as channels
from nbprovision.channel.ensure_conda_channel import EnsureCondaChannel
from nbprovision.channel.package import decompressed
from nbprovision.machine.machine import Machine
from nbprovision.model.errors import TaskFailed
from nbprovision.state.witness import identity
from tests.conftest import Channel
from tests.support.driver import converge, planned

pytestmark = [pytest.mark.proof, pytest.mark.sampled(2)]

DEBIAN = Path("/usr/bin/python3")
IMPORTS = "import ssl, sqlite3, ctypes, zlib, lzma, bz2, hashlib, json, sysconfig, sys; print(sys.prefix)"

_INSTALL = """
import asyncio, os, sys
from pathlib import Path
from rattler import Gateway, solve, install, MatchSpec, Channel, VirtualPackage
async def main(url, prefix, specs):
    records = await solve([Channel(url)], [MatchSpec(s) for s in specs], gateway=Gateway(),
                          platforms=[__import__("rattler").Platform.current(), "noarch"], virtual_packages=VirtualPackage.detect())
    await install(records, prefix, cache_dir=Path(prefix).parent / "pkgs", show_progress=False)
asyncio.run(main(sys.argv[1], sys.argv[2], sys.argv[3:]))
sys.stdout.flush()
os._exit(0)
"""


def install(channel: Path, prefix: Path, *specs: str) -> None:
    done = subprocess.run(
        [sys.executable, "-c", _INSTALL, channel.as_uri(), str(prefix), *specs],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr


def output(*argv: str | Path) -> str:
    env = {"HOME": "/nonexistent", "PATH": "/usr/bin:/bin"}
    done = subprocess.run([*map(str, argv)], capture_output=True, text=True, env=env, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


@pytest.mark.engine
@pytest.mark.network
def test_an_environment_from_it_works_in_any_prefix(channel: Channel, tmp_path: Path) -> None:
    prefix = tmp_path / "a prefix with spaces é"
    install(channel.path, prefix, "python", "pip", "ipykernel")
    python = prefix / "bin/python"
    assert output(python, "-c", IMPORTS) == str(prefix)
    assert output(python, "-c", "import ipykernel, zmq, psutil; print('ok')") == "ok"
    assert str(prefix) in output(prefix / "bin/pip", "--version")
    config = output(python, "-c", "import sysconfig; print(sysconfig.get_config_var('LIBDIR'))")
    assert "placehold" not in config


@pytest.mark.engine
@pytest.mark.network
def test_every_file_is_told_with_its_size_and_digest(channel: Channel, tmp_path: Path) -> None:
    """The deep look of other tasks stands on RECORD and on the records of conda-meta."""
    prefix = tmp_path / "env"
    install(channel.path, prefix, "python", "six")
    code = (
        "import base64, hashlib, importlib.metadata as m\n"
        "for f in m.files('six'):\n"
        "    if f.hash: assert base64.urlsafe_b64encode(hashlib.sha256(f.read_binary()).digest()).rstrip(b'=').decode() == f.hash.value, f\n"
        "    assert f.hash or f.name == 'RECORD', f\n"
        "print(len(m.files('six')))"
    )
    assert int(output(prefix / "bin/python", "-c", code)) >= 5
    for record in (prefix / "conda-meta").glob("*.json"):
        for entry in json.loads(record.read_text())["paths_data"]["paths"]:
            path = prefix / entry["_path"]
            assert path.exists(), path
            if entry["path_type"] == "hardlink" and "prefix_placeholder" not in entry and "sha256" in entry:
                assert hashlib.sha256(path.read_bytes()).hexdigest() == entry["sha256"], path


@pytest.mark.engine
@pytest.mark.network
@pytest.mark.skipif(not DEBIAN.exists(), reason="there is no /usr/bin/python3")
def test_a_distribution_s_python_is_made_right(machine: Machine, tmp_path: Path) -> None:
    """Debian's looks for dist-packages and says EXTERNALLY-MANAGED; a copy of it must do neither."""
    folder = tmp_path / "channel"
    task = EnsureCondaChannel(path=str(folder), pypi=["pip", "six"], interpreter=str(DEBIAN))
    try:
        converge(task, machine)
    except TaskFailed as error:
        if "is not a CPython 3.10" in str(error):
            pytest.skip(f"{DEBIAN} is too old")
        raise
    prefix = tmp_path / "env"
    install(folder, prefix, "python", "pip", "six")
    python = prefix / "bin/python"
    assert output(python, "-c", IMPORTS) == str(prefix)
    assert output(python, "-c", "import six, pip; print(six.__file__)").startswith(str(prefix))
    minor = output(python, "-c", "import sys; print('%d.%d' % sys.version_info[:2])")
    site = f"{prefix}/lib/python{minor}/site-packages"
    assert output(python, "-c", "import sysconfig; print(sysconfig.get_path('purelib'))") == site
    assert output(python, "-c", "import sysconfig; print(sysconfig.get_path('scripts'))") == f"{prefix}/bin"
    assert "dist-packages" not in output(python, "-c", "import sys; print(sys.path)")
    assert not list(prefix.rglob("EXTERNALLY-MANAGED"))
    output(python, "-m", "pip", "install", "--no-index", "--no-deps", "--upgrade", "--dry-run", "six")


@pytest.mark.engine
@pytest.mark.network
def test_a_second_run_builds_nothing_and_starts_nothing(machine: Machine, tmp_path: Path) -> None:
    folder = tmp_path / "channel"
    task = EnsureCondaChannel(path=str(folder), pypi=["six==1.16.0", "six==1.17.0"])
    converge(task, machine)
    assert {path.name.rsplit("-", 1)[0] for path in (folder / "noarch").glob("*.conda")} == {"six-1.16.0", "six-1.17.0"}
    before = {path: identity(path.stat()) for path in folder.rglob("*")}
    code = (
        "import sys, os\nfrom pathlib import Path\n"
        "sys.addaudithook(lambda n, a: (_ for _ in ()).throw(SystemExit(n)) if n.startswith(('subprocess', 'os.fork', 'os.posix_spawn', 'socket')) else None)\n"
        "from nbprovision.machine.machine import Machine\nfrom nbprovision.channel.ensure_conda_channel import EnsureCondaChannel\n"
        f"task = EnsureCondaChannel(path={str(folder)!r}, pypi=['six==1.16.0', 'six==1.17.0'])\n"
        "assert task.plan(task.read(Machine())).changes == ()"
    )
    root = str(Path(__file__).parents[2])
    subprocess.run([sys.executable, "-c", code], check=True, env={**machine.env, "PYTHONPATH": root})
    assert {path: identity(path.stat()) for path in folder.rglob("*")} == before


@pytest.mark.engine
@pytest.mark.network
def test_two_homes_build_the_same_bytes(env: dict[str, str], tmp_path: Path) -> None:
    """With a real Python, and with wheels that each fetches itself."""
    built = []
    for name, umask in (("alice", 0o022), ("bob with a longer name", 0o077)):
        place = tmp_path / name
        own = {
            **env,
            "HOME": str(place / "home"),
            "NBPROVISION_HOME": str(place / "tool"),
            "TMPDIR": str(place / "tmp"),
        }
        for variable in ("HOME", "NBPROVISION_HOME", "TMPDIR"):
            Path(own[variable]).mkdir(parents=True)
        (place / "root").mkdir()
        before = os.umask(umask)
        try:
            machine = Machine({**own, "USER": name}, root=place / "root")
            converge(
                EnsureCondaChannel(path=str(place / "channel"), pypi=["six==1.17.0", "markupsafe==3.0.2"]), machine
            )
        finally:
            os.umask(before)
        files = [path for path in (place / "channel").rglob("*") if path.is_file() and path.name != channels.MANIFEST]
        built.append({path.relative_to(place).as_posix(): path.read_bytes() for path in files})
        time.sleep(2.1)
    assert built[0] == built[1]
    archives = [name for name in built[0] if name.endswith(".conda")]
    assert len(archives) == 3
    for name in archives:
        with zipfile.ZipFile(io.BytesIO(built[0][name])) as archive:
            for member in archive.namelist()[1:]:
                content = decompressed(archive.read(member))
                assert str(tmp_path).encode() not in content
                with tarfile.open(fileobj=io.BytesIO(content)) as members:
                    owners = {(entry.uid, entry.gid, entry.uname, entry.gname) for entry in members}
                    assert owners == {(0, 0, "", "")}
                    assert members.getnames() == sorted(members.getnames())


@pytest.mark.engine
@pytest.mark.network
def test_what_is_added_comes_beside_what_was_there(machine: Machine, tmp_path: Path) -> None:
    folder = tmp_path / "channel"
    converge(EnsureCondaChannel(path=str(folder), pypi="six"), machine)
    changes = converge(EnsureCondaChannel(path=str(folder), pypi=["idna==3.7"]), machine)
    assert [change.target for change in changes] == ["idna==3.7"]
    assert planned(EnsureCondaChannel(path=str(folder), pypi=["six", "idna==3.7"]), machine) == ()


@pytest.mark.engine
@pytest.mark.network
def test_harm_is_found_and_built_again(machine: Machine, tmp_path: Path) -> None:
    folder = tmp_path / "channel"
    task = EnsureCondaChannel(path=str(folder), pypi="six")
    converge(task, machine)
    (six,) = (folder / "noarch").glob("six-*.conda")
    whole = six.read_bytes()
    six.write_bytes(whole[:100])
    assert [change.action for change in converge(task, machine)] == ["build again"]
    assert six.read_bytes() == whole, "the same input makes the same bytes"
    six.write_bytes(bytes(len(whole)))
    assert planned(task, machine) == ()
    deep = EnsureCondaChannel(path=str(folder), pypi="six", deep=True)
    assert [change.action for change in converge(deep, machine)] == ["build again"]
    assert six.read_bytes() == whole
    (folder / "noarch/repodata.json").unlink()
    assert converge(task, machine)
    assert (folder / "noarch/repodata.json").exists()


@pytest.mark.engine
@pytest.mark.network
def test_it_needs_no_network_when_the_wheels_are_kept(machine: Machine, env: dict[str, str], tmp_path: Path) -> None:
    wheels = tmp_path / "wheels"
    converge(EnsureCondaChannel(path=str(tmp_path / "one"), pypi="six", packages_cache=str(wheels)), machine)
    offline = Machine(
        {**env, "PIP_INDEX_URL": "http://127.0.0.1:9/simple", "UV_DEFAULT_INDEX": "http://127.0.0.1:9/simple"},
        root=machine.root,
    )
    converge(EnsureCondaChannel(path=str(tmp_path / "two"), pypi="six", packages_cache=str(wheels)), offline)


@pytest.mark.engine
@pytest.mark.network
def test_pip_s_configuration_counts_and_breaks_nothing(machine: Machine, home: Path, tmp_path: Path) -> None:
    (tmp_path / "c.txt").write_text("six<1.17\n")
    conf = home / ".config/pip/pip.conf"
    conf.parent.mkdir(parents=True)
    conf.write_text(f"[global]\nrequire-virtualenv = true\nquiet = 3\n[install]\nconstraint = {tmp_path}/c.txt\n")
    converge(EnsureCondaChannel(path=str(tmp_path / "channel"), pypi="six"), machine)
    assert [path.name.rsplit("-", 1)[0] for path in (tmp_path / "channel/noarch").glob("*.conda")] == ["six-1.16.0"]


@pytest.mark.engine
def test_absent_removes_it(machine: Machine, tmp_path: Path) -> None:
    folder = tmp_path / "channel"
    converge(EnsureCondaChannel(path=str(folder)), machine)
    assert list((folder / channels_native()).glob("python-*.conda"))
    converge(EnsureCondaChannel(path=str(folder), state="absent"), machine)
    assert not folder.exists()


def channels_native() -> str:
    return "linux-aarch64" if os.uname().machine == "aarch64" else "linux-64"


def test_a_folder_of_somebody_else_is_refused(machine: Machine, tmp_path: Path) -> None:
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.tex").touch()
    for state in ("present", "absent"):
        with pytest.raises(TaskFailed, match="is not a channel of nbprovision"):
            planned(EnsureCondaChannel(path=str(tmp_path / "mine"), state=state), machine)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("interpreter", "message"),
    [
        ("/nonexistent/python", "does not start"),
        ("/bin/true", "does not start"),
        ("9.99", "this machine has no CPython 9.99"),
    ],
)
def test_an_interpreter_that_will_not_do_is_named(
    machine: Machine, tmp_path: Path, interpreter: str, message: str
) -> None:
    with pytest.raises(TaskFailed, match=message):
        converge(EnsureCondaChannel(path=str(tmp_path / "c"), interpreter=interpreter), machine)


@pytest.mark.network
@pytest.mark.engine
def test_a_requirement_that_the_index_does_not_have_is_named(machine: Machine, tmp_path: Path) -> None:
    task = EnsureCondaChannel(path=str(tmp_path / "c"), pypi="no-such-distribution-nbprovision")
    with pytest.raises(TaskFailed, match="no-such-distribution-nbprovision") as caught:
        converge(task, machine)
    assert "pip config list" in str(caught.value)
    manifest = channels.read(tmp_path / "c").manifest
    assert manifest is not None
    assert manifest.files == ()
    assert planned(task, machine), "a channel that is half made is not taken for done"
