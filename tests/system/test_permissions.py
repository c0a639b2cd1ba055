"""Whose the files are that a run makes, and who may read and write them; whatever umask, HOME and sudo say."""

from __future__ import annotations

import os
import shutil
import stat
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from nbprovision.channel.ensure_conda_channel import EnsureCondaChannel
from nbprovision.machine.machine import Machine
from tests.conftest import Channel
from tests.reliability import killing
from tests.reliability.killing import KillWorld
from tests.reliability.world import ROOT
from tests.support.driver import converge

pytestmark = pytest.mark.sampled(2)

PLAYBOOK = """
- tasks:
    - {ensure_pip_index: {url: "https://blue.example/simple"}}
    - {ensure_kernel: {name: tool, argv: [/bin/true, "{connection_file}"], display_name: Tool}}
"""
SOMEBODY = 1000
root = pytest.mark.skipif(os.getuid() != 0, reason="only root can be another user")


@pytest.fixture
def place() -> Iterator[Path]:
    """A folder that other users can get to, with the code and a playbook in it."""
    folder = Path(tempfile.mkdtemp(prefix="nbprovision-test-"))
    folder.chmod(0o755)
    ignored = shutil.ignore_patterns("__pycache__")
    shutil.copytree(ROOT / "nbprovision", folder / "code/nbprovision", ignore=ignored)
    (folder / "playbook.yml").write_text(PLAYBOOK)
    (folder / "home").mkdir()
    yield folder
    shutil.rmtree(folder)


def run(place: Path, *options: str, user: int | None = None, **env: str) -> subprocess.CompletedProcess[str]:
    """Run the playbook as a user with nothing but these variables."""
    words = [sys.executable, "-m", "nbprovision", "run", str(place / "playbook.yml"), *options]
    if user is not None:
        if shutil.which("setpriv") is None:
            pytest.skip("no setpriv (util-linux) here")
        # The tests' Python may lie where only root gets to: this user may read everything, and write what is his.
        reading = ["--inh-caps", "+dac_read_search", "--ambient-caps", "+dac_read_search"]
        words = ["setpriv", f"--reuid={user}", f"--regid={user}", "--clear-groups", *reading, *words]
    return subprocess.run(
        words,
        env={"PATH": "/usr/bin:/bin", "PYTHONPATH": str(place / "code"), "PYTHONDONTWRITEBYTECODE": "1", **env},
        capture_output=True, text=True, check=False, cwd="/",
    )  # fmt: skip


def contents(folder: Path) -> list[str]:
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*"))


def writable_for_others(*folders: Path) -> list[str]:
    """What another user could write to: not the locks in uv's cache, to which nobody else gets."""
    found = []
    for folder in folders:
        for place, inner, names in os.walk(folder):
            if Path(place).name == "uv" and not os.stat(place).st_mode & stat.S_IXOTH:
                inner.clear()
                continue
            paths = [Path(place), *(Path(place, name) for name in names)]
            found += [str(path) for path in paths if not path.is_symlink() and path.stat().st_mode & stat.S_IWOTH]
    return found


@pytest.mark.engine
@pytest.mark.parametrize("umask", [0o000, 0o077], ids=["umask 000", "umask 077"])
def test_modes_do_not_depend_on_the_umask(tmp_path: Path, channel: Channel, umask: int) -> None:
    """Nothing is writable for others, an environment is for all to read, what was closed before stays closed."""
    world = KillWorld(tmp_path, channel)
    world.pip_conf.chmod(0o600)
    before = os.umask(umask)
    try:
        process = killing.start(world)
    finally:
        os.umask(before)
    assert killing.ended(process) == 0
    assert world.differences() == []
    assert writable_for_others(world.tool, world.home) == []
    for path in world.prefix.rglob("*"):
        mode = path.stat().st_mode
        assert mode & stat.S_IROTH, path
        assert not path.is_dir() or mode & stat.S_IXOTH, path
    assert stat.S_IMODE(world.pip_conf.stat().st_mode) == 0o600
    private = [world.tool / "last-run.json", world.tool / "log/nbprovision.log", *(world.tool / "state").iterdir()]
    assert {stat.S_IMODE(path.stat().st_mode) for path in private} == {0o600}
    assert stat.S_IMODE((world.tool / "cache/uv").stat().st_mode) == 0o700


@root
@pytest.mark.parametrize("whose", ["HOME", "the tool's home"])
def test_root_leaves_nothing_in_a_users_home(place: Path, whose: str) -> None:
    home, tool = place / "home", place / "tool"
    tool.mkdir()
    os.chown(home if whose == "HOME" else tool, SOMEBODY, SOMEBODY)
    before = contents(place)
    done = run(place, HOME=str(home), NBPROVISION_HOME=str(tool), SUDO_UID="0")
    assert done.returncode == 5
    assert f"{whose} is {home if whose == 'HOME' else tool}, which is " in done.stderr
    assert "this runs as root" in done.stderr
    assert "runuser -u" in done.stderr
    assert contents(place) == before
    assert run(place, "--list-tasks", HOME=str(home), NBPROVISION_HOME=str(tool)).returncode == 0


@root
def test_who_calls_by_sudo_with_his_own_home_is_told_to_leave_it_out(place: Path) -> None:
    os.chown(place / "home", SOMEBODY, SOMEBODY)
    done = run(place, HOME=str(place / "home"), SUDO_UID=str(SOMEBODY))
    assert done.returncode == 5
    assert "omit sudo; to provide for root use sudo -H" in done.stderr


@root
def test_the_python_api_refuses_it_too(place: Path) -> None:
    os.chown(place / "home", SOMEBODY, SOMEBODY)
    code = (
        "import sys; from nbprovision import ProvisionError, ensure_pip_index, run_playbook\n"
        "for work in (lambda: run_playbook(sys.argv[1]), lambda: ensure_pip_index(url='https://blue.example/simple')):\n"
        "    try: work()\n"
        "    except ProvisionError as error: print(error.message)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, place / "playbook.yml"],
        env={"PATH": "/usr/bin:/bin", "HOME": str(place / "home"), "PYTHONPATH": str(ROOT)},
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert done.stdout.count("and this runs as root") == 2
    assert contents(place / "home") == []


@root
def test_sudo_with_roots_home_provides_for_root_and_says_so(place: Path) -> None:
    done = run(place, HOME=str(place / "home"), SUDO_UID=str(SOMEBODY))
    assert done.returncode == 0, done.stderr
    assert f"this provides for root (in {place / 'home'}), not for " in done.stderr
    assert {path.lstat().st_uid for path in (place / "home").rglob("*")} == {0}


@root
def test_a_user_with_roots_home_is_told_whose_it_is(place: Path) -> None:
    """As after `su somebody` and `sudo -u somebody`."""
    (place / "home").chmod(0o700)
    done = run(place, user=SOMEBODY, HOME=str(place / "home"))
    assert done.returncode == 5, done.stderr
    assert f"may not write: {place / 'home'} is root's" in done.stderr
    assert "su without -, and sudo without -H" in done.stderr
    assert contents(place / "home") == []


@root
def test_a_users_own_files_are_the_users(place: Path) -> None:
    home = place / "home"
    os.chown(home, SOMEBODY, SOMEBODY)
    done = run(place, user=SOMEBODY, HOME=str(home))
    assert done.returncode == 0, done.stderr
    assert {path.lstat().st_uid for path in home.rglob("*")} == {SOMEBODY}


@root
def test_a_read_only_home_is_named_with_what_to_do(place: Path) -> None:
    home = place / "home"
    os.chown(home, SOMEBODY, SOMEBODY)
    home.chmod(0o555)
    done = run(place, user=SOMEBODY, HOME=str(home))
    assert done.returncode == 2
    assert str(home) in done.stderr
    assert "Permission denied" in done.stderr
    assert "ls -ld" in done.stderr
    (place / "tool").mkdir()
    os.chown(place / "tool", SOMEBODY, SOMEBODY)
    done = run(place, "--home", str(place / "tool"), user=SOMEBODY, HOME=str(home))
    assert done.returncode == 2
    assert f"cannot write {home}/.config/pip/pip.conf" in done.stdout + done.stderr
    assert contents(home) == []


@root
def test_a_user_without_a_home_is_told_to_name_one(place: Path) -> None:
    done = run(place, user=54321)
    assert done.returncode == 5
    assert "HOME is /nonexistent, where user 54321 may not write" in done.stderr
    assert "set HOME" in done.stderr


def test_a_home_that_is_a_file_or_relative_is_refused(place: Path) -> None:
    (place / "file").write_text("")
    done = run(place, HOME=str(place / "file"))
    assert done.returncode == 5
    assert f"{place / 'file'} is not a folder" in done.stderr
    done = run(place, HOME="home")
    assert done.returncode == 5
    assert "absolute path" in done.stderr


def test_a_home_that_is_not_there_yet_is_made(place: Path) -> None:
    home = place / "new/home"
    done = run(place, HOME=str(home))
    assert done.returncode == 0, done.stderr
    assert not home.stat().st_mode & 0o022
    assert (home / ".config/pip/pip.conf").exists()


def test_without_home_the_user_database_tells_it() -> None:
    code = (
        "import os; os.environ.pop('HOME', None); from nbprovision.system.places import tool_home, user_home\n"
        "print(user_home(os.environ), tool_home({}), tool_home({'HOME': ''}), tool_home({'NBPROVISION_HOME': '~/x'}))"
    )
    import pwd

    known = pwd.getpwuid(os.getuid()).pw_dir
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    state = f"{known}/.local/state/nbprovision"
    assert done.stdout.split() == [known, state, state, f"{known}/x"]


@root
def test_bootstrap_as_root_makes_nothing_in_a_users_home(place: Path) -> None:
    os.chown(place / "home", SOMEBODY, SOMEBODY)
    done = subprocess.run(
        ["sh", ROOT / "bootstrap.sh", place / "playbook.yml"],
        env={"PATH": "/usr/bin:/bin", "HOME": str(place / "home")}, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 5
    assert "root does not use" in done.stderr
    assert contents(place / "home") == []


@pytest.mark.engine
@pytest.mark.network
def test_a_channel_leaves_nothing_of_its_making(machine: Machine, home: Path, tmp_path: Path) -> None:
    """uv makes folders for tools that it installs, with a lock for everybody to write, though none is installed."""
    converge(EnsureCondaChannel(path=str(tmp_path / "channel"), pypi="six"), machine)
    assert list(home.iterdir()) == []
    assert writable_for_others(machine.home, tmp_path / "channel") == []
