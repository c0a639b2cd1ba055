"""bootstrap.sh with real Pythons: from nothing, again, mended, twice at once; its environment and the run's exit status.

Most tests install from a folder of wheels, which is made once and needs no index afterwards.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import random
import shutil
import subprocess
import sys
import time
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.conftest import registry_settings

ROOT = Path(__file__).parents[2]
FAULTS = ROOT / "tests/reliability/faults.py"
NOT_THERE = "no-such-playbook.yml"
REACHED = 4  # the run's own status for a playbook that is not there


def bootstrap(
    env: dict[str, str], *words: str, script: Path = ROOT / "bootstrap.sh", shell: str = "sh"
) -> subprocess.CompletedProcess[str]:
    return subprocess.run([shell, str(script), *words], env=env, capture_output=True, text=True, timeout=300)


@pytest.fixture(scope="session")
def wheels(shared_cache: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the wheels of nbprovision and all that it needs."""
    from filelock import FileLock

    needs = hashlib.sha256((ROOT / "pyproject.toml").read_bytes()).hexdigest()[:8]
    folder = shared_cache / f"wheels-{sys.version_info.major}.{sys.version_info.minor}-{needs}"
    env = {**os.environ, **registry_settings(), "PIP_DISABLE_PIP_VERSION_CHECK": "1"}
    pip = [sys.executable, "-m", "pip"]
    own = tmp_path_factory.mktemp("wheels")
    with FileLock(shared_cache / "wheels.lock"):
        subprocess.run([*pip, "wheel", "-q", "--no-deps", "-w", str(own), str(ROOT)], env=env, check=True)
        (wheel,) = own.glob("nbprovision-*.whl")
        if not (folder / "complete").exists():
            subprocess.run(
                [*pip, "download", "-q", "-d", str(folder), "--only-binary=:all:", str(wheel)], env=env, check=True
            )
            for copied in folder.glob("nbprovision-*.whl"):
                copied.unlink()
            (folder / "complete").touch()
    for path in folder.glob("*.whl"):
        (own / path.name).hardlink_to(path)
    return own


@pytest.fixture
def offline(env: dict[str, str], wheels: Path, shared_cache: Path) -> dict[str, str]:
    """A machine with a folder of wheels and an index that nobody answers for; its Python is the tests' own."""
    for name in ("PIP_INDEX_URL", "UV_DEFAULT_INDEX", "PIP_EXTRA_INDEX_URL", "PIP_FIND_LINKS"):
        env.pop(name, None)
    return {
        **env,
        "PIP_INDEX_URL": "http://127.0.0.1:9/simple",
        "NBPROVISION_SOURCE": str(wheels),
        "NBPROVISION_PYTHON": sys.executable,
        "PIP_CONFIG_FILE": os.devnull,
        "PIP_RETRIES": "0",
        "UV_CACHE_DIR": str(shared_cache / "uv"),
    }


@pytest.fixture(scope="session")
def made(wheels: Path, shared_cache: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A home folder with a complete environment, to be copied to the same place by tests that harm it."""
    home = tmp_path_factory.mktemp("made") / "home"
    env = {
        "HOME": str(home.parent),
        "PATH": "/usr/local/bin:/usr/bin:/bin",
        "NBPROVISION_HOME": str(home),
        "NBPROVISION_SOURCE": str(wheels),
        "NBPROVISION_PYTHON": sys.executable,
        "UV_CACHE_DIR": str(shared_cache / "uv"),
    }
    done = bootstrap(env, NOT_THERE)
    assert done.returncode == REACHED, done.stderr
    return home


@pytest.fixture
def complete(made: Path, offline: dict[str, str]) -> Iterator[tuple[Path, dict[str, str]]]:
    """That home folder and its variables; what a test does to it (but never in place) is undone."""
    kept = made.with_name("kept")
    shutil.copytree(made, kept, symlinks=True, copy_function=os.link)
    yield made, {**offline, "NBPROVISION_HOME": str(made)}
    shutil.rmtree(made)
    kept.rename(made)


def inodes(folder: Path) -> dict[str, tuple[int, int]]:
    """What is in a folder, by inode and time."""
    found = {}
    for path in sorted(folder.rglob("*")):
        status = path.lstat()
        found[str(path)] = (status.st_ino, status.st_mtime_ns)
    return found


def venv_of(home: Path) -> Path:
    return (home / "venv").resolve()


def test_it_is_small_ascii_and_the_packages_version() -> None:
    """It fits into a lifecycle configuration, survives being pasted there, and names the version beside it."""
    text = (ROOT / "bootstrap.sh").read_bytes()
    assert len(text) <= 12_288
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


def test_a_folder_of_wheels_needs_no_index_and_the_second_run_makes_nothing(
    offline: dict[str, str], tmp_path: Path
) -> None:
    home = tmp_path / "a home with a space"
    first = bootstrap(offline, NOT_THERE, "--home", str(home))
    assert first.returncode == REACHED, first.stderr
    assert "making its environment" in first.stderr
    before = inodes(home / "venv.1")
    second = bootstrap(offline, NOT_THERE, f"--home={home}")
    assert second.returncode == REACHED
    assert "making" not in second.stderr
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
    rewrite_marker(home, "nbprovision==0.0.1", "0.0.1", None, None, None, None)


def harm_kind(home: Path) -> None:
    """As after a move to a machine of another architecture: the interpreter differs, and so does what it is."""
    rewrite_marker(home, None, None, "1 1", None, "cpython-39 riscv64", None)


@pytest.mark.parametrize("harm", [harm_interpreter, harm_file, harm_length, harm_marker, harm_kind])
def test_a_broken_environment_is_made_anew(complete: tuple[Path, dict[str, str]], harm: Callable[[Path], None]) -> None:
    home, env = complete
    harm(home)
    done = bootstrap(env, NOT_THERE)
    assert done.returncode == REACHED, done.stderr
    assert "making its environment" in done.stderr
    assert bootstrap(env, NOT_THERE).stderr.count("making") == 0
    assert len(list(home.glob("venv.?"))) == 1, "the old one is removed"


def test_a_touched_environment_is_looked_at_and_kept(complete: tuple[Path, dict[str, str]]) -> None:
    home, env = complete
    added = next(venv_of(home).glob("lib/python*/site-packages")) / "added.pth"
    added.write_text("")
    done = bootstrap(env, NOT_THERE)
    assert done.returncode == REACHED
    assert "making" not in done.stderr
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


def test_two_at_once_do_it_once_by_pip_where_uv_is_not_had(offline: dict[str, str]) -> None:
    """Only pip knows of this machine's wheels; the second bootstrap waits, and finds the work done."""
    env = {**offline, "PIP_NO_INDEX": "1", "PIP_FIND_LINKS": offline["NBPROVISION_SOURCE"]}
    env["NBPROVISION_SOURCE"] = "nbprovision>=0.1"
    words = ["sh", str(ROOT / "bootstrap.sh"), NOT_THERE]
    both = [
        subprocess.Popen(words, env=env, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) for _ in range(2)
    ]
    errors = [process.communicate(timeout=300)[1] for process in both]
    assert [process.returncode for process in both] == [REACHED, REACHED], errors
    assert sum(text.count("making its environment") for text in errors) == 1
    assert sum(text.count("waiting for another bootstrap") for text in errors) == 1


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
    assert "belongs to another user" in done.stderr
    assert "runuser -u USER" in done.stderr


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
    assert "making" not in bootstrap(env, NOT_THERE, script=clone / "bootstrap.sh").stderr
    assert inodes(venv_of(home)) == before
    with (clone / "nbprovision/__main__.py").open("a") as stream:
        stream.write("# changed\n")
    changed = bootstrap(env, NOT_THERE, script=clone / "bootstrap.sh")
    assert "making" in changed.stderr
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


def only_one_slot_left(home: Path, env: dict[str, str], playbook: str) -> None:
    """The next start works, and clears up."""
    done = bootstrap(env, playbook)
    assert done.returncode == 0, done.stderr
    assert sorted(path.name for path in home.glob("venv*")) == ["venv", venv_of(home).name]
    assert not (venv_of(home) / ".complete.new").exists()
    assert "making" not in bootstrap(env, playbook).stderr


@pytest.mark.parametrize(("number", "mode"), [(3, "before"), (8, "before")])
def test_killed_in_the_last_step_the_next_start_works(
    complete: tuple[Path, dict[str, str]], tmp_path: Path, number: int, mode: str
) -> None:
    home, env = complete
    assert killed_in_the_last_step(home, number, mode)
    only_one_slot_left(home, env, light(tmp_path))


@pytest.mark.long
def test_killed_at_every_operation_of_the_last_step(complete: tuple[Path, dict[str, str]], tmp_path: Path) -> None:
    home, env = complete
    kept = home.with_name("kept again")
    shutil.copytree(home, kept, symlinks=True, copy_function=os.link)
    done = 0
    for mode in ("before", "in"):
        number = 1
        while killed_in_the_last_step(home, number, mode):
            only_one_slot_left(home, env, light(tmp_path))
            print(f"{mode} {number}", flush=True)
            shutil.rmtree(home)
            shutil.copytree(kept, home, symlinks=True, copy_function=os.link)
            number += 1
            done += 1
        shutil.rmtree(home)
        shutil.copytree(kept, home, symlinks=True, copy_function=os.link)
    assert done >= 8


@pytest.mark.long
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
        only_one_slot_left(home, env, playbook)
        harm_version(home)
    print(f"seed {seed}: {landed} landed", flush=True)
