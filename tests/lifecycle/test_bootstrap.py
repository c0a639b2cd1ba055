"""bootstrap.sh with real Pythons: from nothing, again, mended, twice at once; its environment and the run's exit status.

Most tests install from a folder of wheels, which is made once and needs no index afterwards.
"""

from __future__ import annotations

import contextlib
import os
import random
import shutil
import subprocess
import sys
import time
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest

from nbprovision import __version__
from nbprovision.lifecycle.addresses import SOURCES
from tests.lifecycle.test_bootstrap_hook import an_index
from tests.support.bootstrapping import NOT_THERE, REACHED, ROOT, bootstrap

pytestmark = [pytest.mark.proof, pytest.mark.sampled(3)]  # each installs the tool

FAULTS = ROOT / "tests/reliability/faults.py"


def inodes(folder: Path) -> dict[str, tuple[int, int]]:
    """What is in a folder, by inode and time."""
    found = {}
    for path in sorted(folder.rglob("*")):
        status = path.lstat()
        found[str(path)] = (status.st_ino, status.st_mtime_ns)
    return found


def venv_of(home: Path) -> Path:
    return (home / "venv").resolve()


def test_it_is_ascii_and_names_the_packages_version() -> None:
    text = (ROOT / "bootstrap.sh").read_bytes()
    assert text.isascii()
    assert b"\r" not in text
    assert text.startswith(b"#!/bin/sh\n")
    version = next(line for line in (ROOT / "pyproject.toml").read_text().splitlines() if line.startswith("version"))
    number = version.split('"')[1]
    assert f"\nversion={number}\n".encode() in text


@pytest.mark.parametrize("shell", ["dash", "bash", "busybox"])
def test_every_shell_understands_it(shell: str) -> None:
    if shutil.which(shell) is None:
        pytest.skip(f"no {shell} here")
    words = [shell, "sh"] if shell == "busybox" else [shell]
    subprocess.run([*words, "-n", str(ROOT / "bootstrap.sh")], check=True)


def test_the_digest_covers_every_file_of_the_package() -> None:
    """What decides whether a clone has changed looks three folders deep; nothing may lie deeper."""
    for path in (ROOT / "nbprovision").rglob("*"):
        if path.is_file() and "__pycache__" not in path.parts:
            inside = path.relative_to(ROOT / "nbprovision")
            assert len(inside.parts) <= 3, inside
            assert "." in inside.name, inside
            assert not any(folder.startswith("_") for folder in inside.parts[:-1]), inside


def test_without_a_playbook_it_tells_its_usage(env: dict[str, str]) -> None:
    done = bootstrap(env)
    assert done.returncode == 5
    assert "usage: sh bootstrap.sh PLAYBOOK" in done.stderr
    assert done.stdout == ""


def test_no_python_is_said_with_what_to_do(env: dict[str, str], tmp_path: Path) -> None:
    old = tmp_path / "python3"
    old.write_text("#!/bin/sh\necho is cpython 3.9.2\nexit 1\n")
    old.chmod(0o755)
    done = bootstrap({**env, "NBPROVISION_PYTHON": str(old)}, NOT_THERE)
    assert done.returncode == 2
    assert "found no CPython 3.10 or newer" in done.stderr
    assert f"{old} is cpython 3.9.2" in done.stderr
    assert "NBPROVISION_PYTHON" in done.stderr
    assert not Path(env["NBPROVISION_HOME"]).exists()


def test_a_python_with_neither_pip_nor_ensurepip_is_refused(env: dict[str, str], tmp_path: Path) -> None:
    """As Debian's without python3-venv and python3-pip; here a script that hides both from whoever asks."""
    bare = tmp_path / "python3"
    hide = "import importlib.util, site; importlib.util.find_spec = site.getsitepackages = lambda *_: []"
    bare.write_text(f'#!/bin/sh\nexec {sys.executable} -I -S -c "{hide}; $4"\n')
    bare.chmod(0o755)
    done = bootstrap({**env, "NBPROVISION_PYTHON": str(bare)}, NOT_THERE)
    assert done.returncode == 2
    assert "found no CPython 3.10 or newer with venv, ssl, and pip or ensurepip" in done.stderr
    assert f"{bare} is cpython 3." in done.stderr
    assert "apt-get install python3-venv" in done.stderr


def test_what_pip_is_told_for_an_install_holds(offline: dict[str, str], wheels: Path, tmp_path: Path) -> None:
    """A section that `pip download` does not read, for pip and for uv; the tool alone is in the folder."""
    folder = tmp_path / "tool"
    folder.mkdir()
    (wheel,) = wheels.glob("nbprovision-*.whl")
    (folder / wheel.name).hardlink_to(wheel)
    conf = tmp_path / "pip.conf"
    env = {**offline, "NBPROVISION_SOURCE": str(folder), "PIP_CONFIG_FILE": str(conf)}
    del env["PIP_INDEX_URL"]
    with an_index(wheels) as index:
        conf.write_text(f"[global]\nindex-url = http://127.0.0.1:9/simple\n[install]\nindex-url = {index.url}\n")
        done = bootstrap(env, NOT_THERE)
    assert done.returncode == REACHED, done.stderr
    assert not list(Path(env["NBPROVISION_HOME"]).glob("venv/lib/python3*/site-packages/pip")), "uv has done it"


def test_a_folder_of_wheels_needs_no_index_and_the_second_run_makes_nothing(
    offline: dict[str, str], tmp_path: Path
) -> None:
    home = tmp_path / "a home with a space"
    first = bootstrap(offline, NOT_THERE, "--home", str(home))
    assert first.returncode == REACHED, first.stderr
    assert "creating its environment" in first.stderr
    command = Path(offline["HOME"], ".local/bin/nbprovision")
    assert f"the command is {command}" in first.stderr
    assert "nbprovision" in subprocess.run([command, "--version"], capture_output=True, text=True, check=True).stdout
    before = inodes(home / "venv.1")
    second = bootstrap(offline, NOT_THERE, f"--home={home}")
    assert second.returncode == REACHED
    assert "creating" not in second.stderr
    assert inodes(home / "venv.1") == before
    assert not (home / "venv.2").exists()
    assert list((home / "venv/lib").glob("python*/site-packages/nbprovision/__pycache__/__main__.*.pyc"))


def test_the_command_starts_without_what_generated_wrappers_import(made: Path) -> None:
    """The script of the wheel is ours, with the environment's Python in its first line."""
    script = made / "venv/bin/nbprovision"
    first, *rest = script.read_text().splitlines()
    assert first == f"#!{venv_of(made)}/bin/python"
    assert rest == (ROOT / "scripts/nbprovision").read_text().splitlines()[1:]
    assert os.access(script, os.X_OK)


def harm_interpreter(home: Path) -> None:
    (venv_of(home) / "bin/python").unlink()
    (venv_of(home) / "bin/python").symlink_to("/gone/with/the/image/python3")


def harm_file(home: Path) -> None:
    next(venv_of(home).glob("lib/python*/site-packages/nbprovision/model/errors.py")).unlink()


def harm_length(home: Path) -> None:
    path = next(venv_of(home).glob("lib/python*/site-packages/jinja2/runtime.py"))
    path.unlink()
    path.write_text("")


def harm_marker(home: Path) -> None:
    (venv_of(home) / ".complete").unlink()


def rewrite_marker(home: Path, *replaced: str | None) -> None:
    marker = venv_of(home) / ".complete"
    lines = marker.read_text().splitlines()
    marker.unlink()
    marker.write_text("\n".join(new or old for new, old in zip(replaced, lines, strict=True)) + "\n")


def harm_version(home: Path) -> None:
    rewrite_marker(home, "nbprovision==0.0.1", "0.0.1", None, None, None, None, None)


def harm_kind(home: Path) -> None:
    """As after a move to a machine of another architecture: the interpreter differs, and so does what it is."""
    rewrite_marker(home, None, None, "1 1", None, "cpython-39 riscv64", None, None)


def test_a_copy_without_a_checkout_installs_nothing_that_it_would_have_to_guess(
    offline: dict[str, str], tmp_path: Path
) -> None:
    """The name is nobody's on pypi.org."""
    del offline["NBPROVISION_SOURCE"]
    copy = tmp_path / "bootstrap.sh"
    shutil.copy(ROOT / "bootstrap.sh", copy)
    done = bootstrap(offline, NOT_THERE, script=copy)
    assert done.returncode == 5
    assert f"Write --tool CHECKOUT or one of {SOURCES}. NBPROVISION_SOURCE takes the same." in done.stderr
    assert not Path(offline["NBPROVISION_HOME"]).exists()


def test_a_copy_without_a_checkout_uses_the_tool_that_is_installed(
    complete: tuple[Path, dict[str, str]], tmp_path: Path
) -> None:
    home, env = complete
    del env["NBPROVISION_SOURCE"]
    copy = tmp_path / "bootstrap.sh"
    shutil.copy(ROOT / "bootstrap.sh", copy)
    done = bootstrap(env, NOT_THERE, script=copy)
    assert done.returncode == REACHED, done.stderr
    (next((home / "venv/lib").glob("python3*/site-packages/nbprovision")) / "cli/run.py").unlink()
    done = bootstrap(env, NOT_THERE, script=copy)
    assert done.returncode == 5
    assert "does not know what to install" in done.stderr


@pytest.mark.parametrize("harm", [harm_interpreter, harm_file, harm_length, harm_marker, harm_kind])
def test_a_broken_environment_is_made_again(
    complete: tuple[Path, dict[str, str]], harm: Callable[[Path], None]
) -> None:
    home, env = complete
    harm(home)
    done = bootstrap(env, NOT_THERE)
    assert done.returncode == REACHED, done.stderr
    assert "creating its environment" in done.stderr
    assert bootstrap(env, NOT_THERE).stderr.count("creating") == 0
    assert venv_of(home).name == "venv.2", "the broken one is not written over while something may use it"


def test_a_touched_environment_is_looked_at_and_kept(complete: tuple[Path, dict[str, str]]) -> None:
    home, env = complete
    added = next(venv_of(home).glob("lib/python*/site-packages")) / "added.pth"
    added.write_text("")
    done = bootstrap(env, NOT_THERE)
    assert done.returncode == REACHED
    assert "creating" not in done.stderr
    assert (venv_of(home) / ".complete").stat().st_mtime_ns >= added.stat().st_mtime_ns, "the next start is short again"


def test_a_source_that_is_not_there_leaves_the_old_environment(complete: tuple[Path, dict[str, str]]) -> None:
    home, env = complete
    before = inodes(home / "venv.1")
    done = bootstrap({**env, "NBPROVISION_SOURCE": "nbprovision==99.0"}, NOT_THERE)
    assert done.returncode == 2
    assert "could not install nbprovision==99.0" in done.stderr
    assert "NBPROVISION_SOURCE" in done.stderr
    assert inodes(home / "venv.1") == before
    assert not (home / "venv.2").exists()


def test_a_background_run_keeps_the_environment_that_it_uses(complete: tuple[Path, dict[str, str]]) -> None:
    import fcntl

    home, env = complete
    harm_version(home)
    with (home / "lock").open("a") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        assert bootstrap(env, NOT_THERE).returncode == REACHED
    assert (home / "venv.1/bin/python").exists()
    assert venv_of(home).name == "venv.2"


def test_two_at_once_do_it_once(offline: dict[str, str]) -> None:
    """Pip's settings name this machine's wheels; the second bootstrap waits, and finds the work done."""
    env = {**offline, "PIP_NO_INDEX": "1", "PIP_FIND_LINKS": offline["NBPROVISION_SOURCE"]}
    env["NBPROVISION_SOURCE"] = "nbprovision>=0.1"
    words = ["sh", str(ROOT / "bootstrap.sh"), NOT_THERE]
    both = [
        subprocess.Popen(words, env=env, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) for _ in range(2)
    ]
    errors = [process.communicate(timeout=300)[1] for process in both]
    assert [process.returncode for process in both] == [REACHED, REACHED], errors
    assert sum(text.count("creating its environment") for text in errors) == 1
    assert sum(text.count("waiting for another bootstrap") for text in errors) == 1
    assert not list(Path(env["NBPROVISION_HOME"]).glob("venv/lib/python3*/site-packages/pip")), "uv has done it"


def test_killed_in_the_middle_the_next_one_completes(offline: dict[str, str]) -> None:
    home = Path(offline["NBPROVISION_HOME"])
    process = subprocess.Popen(
        ["sh", str(ROOT / "bootstrap.sh"), NOT_THERE], env=offline, stderr=subprocess.DEVNULL, start_new_session=True
    )
    while not (home / "venv.1/pyvenv.cfg").exists() and process.poll() is None:
        pass
    os.killpg(process.pid, 9)
    process.wait()
    assert not (home / "venv/.complete").exists()
    done = bootstrap(offline, NOT_THERE)
    assert done.returncode == REACHED, done.stderr
    assert [path.name for path in home.glob("venv*")] in (["venv", "venv.1"], ["venv.1", "venv"])


@pytest.mark.skipif(os.getuid() != 0, reason="only root can give files away")
def test_root_runs_nothing_that_belongs_to_another(complete: tuple[Path, dict[str, str]]) -> None:
    home, env = complete
    os.chown(venv_of(home), 1000, 1000)
    done = bootstrap(env, NOT_THERE)
    assert done.returncode == 5
    assert f"root does not use {home / 'venv'}" in done.stderr
    assert "setsid --wait runuser -u " in done.stderr


def test_settings_for_other_installs_do_not_lead_astray(offline: dict[str, str], tmp_path: Path) -> None:
    """A hostile environment: a target folder, user installs, no byte code, a module path with a broken yaml."""
    (tmp_path / "yaml.py").write_text("raise SystemError")
    env = {
        **offline,
        "PIP_TARGET": str(tmp_path / "elsewhere"),
        "PIP_USER": "1",
        "PIP_REQUIRE_VIRTUALENV": "1",
        "PYTHONDONTWRITEBYTECODE": "1",
        "PYTHONHOME": "",
    }
    done = subprocess.run(
        ["sh", "-c", 'umask 000; exec sh "$0" "$@"', str(ROOT / "bootstrap.sh"), NOT_THERE],
        env=env, capture_output=True, text=True,
    )  # fmt: skip
    assert done.returncode == REACHED, done.stderr
    assert not (tmp_path / "elsewhere").exists()
    home = Path(env["NBPROVISION_HOME"])
    assert list(venv_of(home).glob("lib/python*/site-packages/yaml/__pycache__/__init__.*.pyc"))
    assert not [path for path in venv_of(home).rglob("*") if not path.is_symlink() and path.stat().st_mode & 0o022]


@pytest.mark.network
def test_from_a_clone_by_the_system_python(env: dict[str, str], tmp_path: Path) -> None:
    """A change in the clone is installed by the next run; with Debian's python3 where there is one."""
    clone = tmp_path / "clone"
    shutil.copytree(ROOT / "nbprovision", clone / "nbprovision", ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("bootstrap.sh", "pyproject.toml", "README.md", "scripts"):
        source = ROOT / name
        (shutil.copytree if source.is_dir() else shutil.copy)(source, clone / name)
    system = Path("/usr/bin/python3")
    fits = (
        system.exists()
        and not subprocess.run([system, "-c", "import sys; sys.exit(sys.version_info < (3, 10))"]).returncode
    )
    env["NBPROVISION_PYTHON"] = str(system) if fits else sys.executable
    del env["NBPROVISION_HOME"]
    first = bootstrap(env, NOT_THERE, script=clone / "bootstrap.sh")
    assert first.returncode == REACHED, first.stderr
    home = Path(env["HOME"]) / ".local/state/nbprovision"
    before = inodes(venv_of(home))
    assert "creating" not in bootstrap(env, NOT_THERE, script=clone / "bootstrap.sh").stderr
    assert inodes(venv_of(home)) == before
    with (clone / "nbprovision/__main__.py").open("a") as stream:
        stream.write("# changed\n")
    changed = bootstrap(env, NOT_THERE, script=clone / "bootstrap.sh")
    assert "creating" in changed.stderr
    (installed,) = venv_of(home).glob("lib/python*/site-packages/nbprovision/__main__.py")
    assert installed.read_text().endswith("# changed\n")


def test_the_wheel_holds_what_a_run_needs(wheels: Path) -> None:
    (wheel,) = wheels.glob("nbprovision-*.whl")
    with zipfile.ZipFile(wheel) as content:
        names = set(content.namelist())
        script = next(name for name in names if name.endswith(".data/scripts/nbprovision"))
        assert content.read(script).startswith(b"#!python\n")
        assert content.getinfo(script).external_attr >> 16 & 0o111
    inside = {path.relative_to(ROOT).as_posix() for path in (ROOT / "nbprovision").rglob("*.py")}
    assert inside <= names
    assert "nbprovision/py.typed" in names


def light(tmp_path: Path) -> str:
    """A playbook that is quickly carried out."""
    playbook = tmp_path / "playbook.yml"
    playbook.write_text('- tasks: [{ensure_kernel: {name: t, argv: ["true", "{connection_file}"], display_name: T}}]\n')
    return str(playbook)


@pytest.mark.parametrize("turned", [False, True], ids=["before the link was turned", "after it"])
def test_the_slot_of_a_killed_install_goes_at_the_next_run(
    complete: tuple[Path, dict[str, str]], tmp_path: Path, turned: bool
) -> None:
    """Also where all else is in place, so that the start-up path would have ended the run."""
    home, env = complete
    playbook = light(tmp_path)
    for _ in range(2):
        assert bootstrap(env, playbook).returncode == 0
    (home / "venv.2/lib").mkdir(parents=True)
    if turned:
        shutil.rmtree(home / "venv.2")
        (home / "venv.1").rename(home / "venv.2")
        (home / "venv.1/lib").mkdir(parents=True)
        (home / "venv").unlink()
        (home / "venv").symlink_to("venv.2")
    done = subprocess.run(
        [venv_of(home) / "bin/python", "-m", "nbprovision", "run", playbook], env=env, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    assert len(list(home.glob("venv.?"))) == 1
    assert (venv_of(home) / "bin/python").exists()


def fill_another_slot(home: Path) -> list[str]:
    """Do what bootstrap.sh does before the last step of an install, which are the words that this returns."""
    shutil.copytree(home / "venv.1", home / "venv.2", symlinks=True, copy_function=os.link)
    (home / "venv.2/.complete").unlink()
    wanted = (home / "venv.1/.complete").read_text().splitlines()[0]
    return ["finish", str(home / "venv.2"), str(home), wanted]


def killed_in_the_last_step(home: Path, number: int, mode: str) -> bool:
    """Whether there was an n-th operation to be killed at."""
    words = fill_another_slot(home)
    python = [home / "venv.2/bin/python", "-B", "-I", FAULTS, home, str(number), mode, "--", *words]
    return subprocess.run(python, check=False, start_new_session=True).returncode == -9


def no_half_slot_left(home: Path, env: dict[str, str], playbook: str) -> None:
    """The next start works, and clears up."""
    done = bootstrap(env, playbook)
    assert done.returncode == 0, done.stderr
    slots = [path for path in home.glob("venv*") if not path.is_symlink()]
    assert all((slot / ".complete").exists() and not (slot / ".complete.new").exists() for slot in slots)
    assert not list(home.glob("*.new"))
    assert "creating" not in bootstrap(env, playbook).stderr


@pytest.mark.parametrize(("number", "mode"), [(3, "before"), (6, "before")])
def test_killed_in_the_last_step_the_next_start_works(
    complete: tuple[Path, dict[str, str]], tmp_path: Path, number: int, mode: str
) -> None:
    home, env = complete
    assert killed_in_the_last_step(home, number, mode)
    no_half_slot_left(home, env, light(tmp_path))


@pytest.mark.campaign
def test_killed_at_every_operation_of_the_last_step(complete: tuple[Path, dict[str, str]], tmp_path: Path) -> None:
    home, env = complete
    kept = home.with_name("kept again")
    shutil.copytree(home, kept, symlinks=True, copy_function=os.link)
    done = 0
    for mode in ("before", "in"):
        number = 1
        while killed_in_the_last_step(home, number, mode):
            no_half_slot_left(home, env, light(tmp_path))
            print(f"{mode} {number}", flush=True)
            shutil.rmtree(home)
            shutil.copytree(kept, home, symlinks=True, copy_function=os.link)
            number += 1
            done += 1
        shutil.rmtree(home)
        shutil.copytree(kept, home, symlinks=True, copy_function=os.link)
    assert done >= 8


@pytest.mark.campaign
@pytest.mark.parametrize("seed", range(20))
def test_killed_at_a_random_moment_the_next_one_completes(offline: dict[str, str], tmp_path: Path, seed: int) -> None:
    """Of a first install and then of one that takes its place."""
    home, playbook = Path(offline["NBPROVISION_HOME"]), light(tmp_path)
    chance = random.Random(seed)
    landed = 0
    for env in (
        offline,
        {**offline, "NBPROVISION_SOURCE": str(next(Path(offline["NBPROVISION_SOURCE"]).glob("nbprovision-*.whl")))},
    ):
        process = subprocess.Popen(
            ["sh", str(ROOT / "bootstrap.sh"), playbook], env=env, stderr=subprocess.DEVNULL, start_new_session=True
        )
        time.sleep(chance.random() * 25)
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, 9)
        landed += process.wait() == -9
        done = bootstrap(env, playbook)
        assert done.returncode == 0, done.stderr
        no_half_slot_left(home, env, playbook)
        harm_version(home)
    print(f"seed {seed}: {landed} landed", flush=True)


def users_settings(env: dict[str, str], folder: Path) -> list[str]:
    (folder / "uv").mkdir()
    (folder / "uv/uv.toml").write_text("")
    os.chown(folder / "uv/uv.toml", 1000, 1000)
    env["XDG_CONFIG_HOME"] = str(folder)
    return [NOT_THERE]


def users_pip_conf(env: dict[str, str], folder: Path) -> list[str]:
    (folder / "pip.conf").write_text("")
    os.chown(folder / "pip.conf", 1000, 1000)
    env["PIP_CONFIG_FILE"] = str(folder / "pip.conf")
    return [NOT_THERE]


def users_home(env: dict[str, str], folder: Path) -> list[str]:
    os.chown(folder, 1000, 1000)
    env["HOME"] = str(folder)
    return [NOT_THERE]


def link_to_a_wheel_of_the_users(env: dict[str, str], folder: Path) -> list[str]:
    (folder / "theirs.whl").write_bytes(b"")
    os.chown(folder / "theirs.whl", 1000, 1000)
    wheels = folder / "wheels"
    wheels.mkdir()
    (wheels / f"nbprovision-{__version__}-py3-none-any.whl").symlink_to(folder / "theirs.whl")
    env["NBPROVISION_SOURCE"] = str(wheels)
    return [NOT_THERE]


def link_to_an_aws_of_the_users(env: dict[str, str], folder: Path) -> list[str]:
    (folder / "theirs").write_text(f"#!/bin/sh\ntouch {folder}/won\n")
    (folder / "theirs").chmod(0o755)
    os.chown(folder / "theirs", 1000, 1000)
    (folder / "bin").mkdir()
    (folder / "bin/aws").symlink_to(folder / "theirs")
    env["PATH"] = f"{folder}/bin:{env['PATH']}"
    return ["s3://bucket/team.yml"]


def a_way_back_from_nowhere(env: dict[str, str], folder: Path) -> list[str]:
    (folder / "theirs").mkdir()
    os.chown(folder / "theirs", 1000, 1000)
    return [NOT_THERE, "--home", f"{folder}/missing/../theirs/home"]


@pytest.mark.skipif(os.getuid() != 0, reason="only root can give files away")
@pytest.mark.parametrize(
    "plant",
    [
        users_settings, users_pip_conf, users_home, link_to_a_wheel_of_the_users, link_to_an_aws_of_the_users,
        a_way_back_from_nowhere,
    ],
    ids=lambda plant: plant.__name__,
)  # fmt: skip
def test_root_obeys_nothing_of_a_users(
    complete: tuple[Path, dict[str, str]], tmp_path: Path, plant: Callable[[dict[str, str], Path], list[str]]
) -> None:
    _, env = complete
    folder = tmp_path / "place"
    folder.mkdir()
    done = bootstrap(env, *plant(env, folder))
    assert done.returncode == 5, done.stderr
    assert "root does not use" in done.stderr
    assert not (folder / "won").exists()
    assert not [path for path in folder.rglob("*") if "home" in path.name], "nothing of root's is left"


@pytest.mark.skipif(os.getuid() != 0, reason="only root can give files away")
def test_a_python_of_roots_that_imports_what_a_user_can_change(offline: dict[str, str], tmp_path: Path) -> None:
    """A virtual environment of root's, made by a Python whose folder is the user's."""
    theirs = tmp_path / "theirs/bin"
    theirs.mkdir(parents=True)
    os.chown(theirs.parent, 1000, 1000)
    own = tmp_path / "own"
    (own / "bin").mkdir(parents=True)
    (own / "pyvenv.cfg").write_text(f"home = {theirs}\n")
    (own / "bin/python3").write_text(f"#!/bin/sh\ntouch {tmp_path}/won\n")
    (own / "bin/python3").chmod(0o755)
    done = bootstrap({**offline, "NBPROVISION_PYTHON": str(own / "bin/python3")}, NOT_THERE)
    assert done.returncode == 2
    assert "root does not run it" in done.stderr
    assert not (tmp_path / "won").exists()


@pytest.mark.skipif(os.getuid() != 0, reason="only root can give files away")
@pytest.mark.parametrize("through_a_link", [False, True])
def test_a_python_of_roots_with_a_module_of_a_users_deep_in_a_package(
    offline: dict[str, str], tmp_path: Path, *, through_a_link: bool
) -> None:
    own = tmp_path / "own"
    package = own / "lib/python3.11/site-packages/first/second/third"
    package.mkdir(parents=True)
    module = tmp_path / "theirs.py" if through_a_link else package / "module.py"
    module.touch()
    os.chown(module, 1000, 1000)
    if through_a_link:
        (package / "module.py").symlink_to(module)
    (own / "bin").mkdir()
    (own / "bin/python3").write_text(f"#!/bin/sh\ntouch {tmp_path}/won\n")
    (own / "bin/python3").chmod(0o755)
    done = bootstrap({**offline, "NBPROVISION_PYTHON": str(own / "bin/python3")}, NOT_THERE)
    assert done.returncode == 2
    assert "module.py is " in done.stderr
    assert not (tmp_path / "won").exists()
