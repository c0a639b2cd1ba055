"""`pylock.toml` among the requirements of pip tasks: read, selected, compared, and installed by both engines."""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
import tarfile
import zipfile
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

import pytest
import uv

from nbprovision.indexes.index_settings import IndexSettings
from nbprovision.machine import distributions, protection
from nbprovision.machine.archives import Archives
from nbprovision.machine.distributions import Distribution
from nbprovision.machine.machine import Machine
from nbprovision.model.errors import InvalidPlaybook, ParameterError, ProvisionError, TaskFailed
from nbprovision.model.task import Foretold
from nbprovision.pip import pylock, requirements
from nbprovision.pip.ensure_pip_pkg import EnsurePipPkg
from nbprovision.pip.ensure_venv import EnsureVenv
from nbprovision.pip.locked_install import with_credentials
from nbprovision.pip.satisfied import unsatisfied
from nbprovision.system import commands
from tests.support.driver import converge, planned
from tests.support.file_server import FileServer, serving_files
from tests.support.pip_environment import ENGINES, Task, asked_of, told, venv
from tests.support.provided import Instance, content, versions
from tests.support.wheels import make_project, make_wheel

pytestmark = [pytest.mark.engine, pytest.mark.sampled(2)]

BOTH = [("install", "apple", None, "1.1"), ("install", "pear", None, "1.0")]


def digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def file(path: Path, place: str = "", *, key: str = "url") -> str:
    """The entry of a file in a lock."""
    return f'{{ {key} = "{place or path.as_uri()}", hashes = {{ sha256 = "{digest(path)}" }} }}'


def package(name: str, version: str, *wheels: str, more: str = "") -> str:
    """A package of a lock."""
    of_wheels = f"wheels = [{', '.join(wheels)}]\n" if wheels else ""
    return f'[[packages]]\nname = "{name}"\nversion = "{version}"\n{more}{of_wheels}\n'


def lock(*packages: str, head: str = "") -> str:
    """The text of a lock."""
    return f'lock-version = "1.0"\ncreated-by = "a test"\n{head}\n{"".join(packages)}'


def named(wheels: Path, name: str, version: str, more: str = "") -> str:
    """A package with its wheel in the folder."""
    return package(name, version, file(wheels / f"{name}-{version}-py3-none-any.whl"), more=more)


@pytest.fixture
def written(tmp_path: Path, wheels: Path) -> Path:
    """A lock by hand: apple 1.1 and pear 1.0."""
    path = tmp_path / "pylock.toml"
    path.write_text(lock(named(wheels, "apple", "1.1"), named(wheels, "pear", "1.0")))
    return path


def tampered(wheel: Path) -> None:
    with zipfile.ZipFile(wheel, "a") as archive:
        archive.writestr("evil.py", "")


# ------------------------------------------------------------------------------------------------- what is installed


@ENGINES
def test_exactly_what_is_locked_is_installed_and_counts_as_from_an_index(
    task: Task, machine: Machine, written: Path, prefix: Path, engine: str
) -> None:
    assert told(converge(task(requirements=str(written), engine=engine), machine)) == BOTH
    assert asked_of(prefix, "import apple, pear; print(apple.version, pear.version)") == "1.1 1.0"
    assert list(prefix.glob("lib/*/site-packages/*/direct_url.json")) == []
    assert not [path for path in machine.cache.iterdir() if "locked" in path.name]


def test_what_is_in_place_starts_no_process(
    task: Task, machine: Machine, written: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    wanted = task(requirements=str(written))
    converge(wanted, machine)
    monkeypatch.setattr(commands, "run", lambda *words, **more: pytest.fail(f"started {words}"))
    machine.forget()
    assert planned(wanted, machine) == ()
    assert {written, *(wanted._target(machine).prefix.glob("lib/*/site-packages/*.dist-info"))} <= set(
        wanted.witnesses(machine)
    )
    assert [each.path for each in wanted.inputs(machine)] == [written]


@ENGINES
def test_only_what_differs_is_changed(
    task: Task, machine: Machine, written: Path, wheels: Path, prefix: Path, engine: str
) -> None:
    """An older version by the lock is a downgrade; nothing else is touched, and what is not in the lock stays."""
    converge(task("apple==2.0", "plum", engine=engine), machine)
    wanted = task(requirements=str(written), engine=engine)
    assert told(converge(wanted, machine)) == [("downgrade", "apple", "2.0", "1.1"), BOTH[1]]
    assert set(distributions.installed(prefix)) == {"apple", "pear", "plum"}
    folder = distributions.installed(prefix)["pear"][0].path
    (folder / "METADATA").unlink()
    (folder / "RECORD").unlink()
    machine.suspect.add(prefix)
    assert [(change.target, change.after) for change in converge(wanted, machine)] == [("pear", "1.0")]


@ENGINES
def test_nothing_is_resolved_beyond_the_lock(
    task: Task, machine: Machine, wheels: Path, prefix: Path, tmp_path: Path, engine: str
) -> None:
    """pear needs apple, which the lock leaves out, as conda brings it."""
    (tmp_path / "pylock.toml").write_text(lock(named(wheels, "pear", "1.0")))
    assert told(converge(task(requirements=str(tmp_path / "pylock.toml"), engine=engine), machine)) == [BOTH[1]]
    assert set(distributions.installed(prefix)) == {"pear"}


def test_the_files_of_what_a_lock_leaves_alone_are_not_read(
    task: Task, machine: Machine, wheels: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """uv installs and replaces what the lock has, and nothing else: an environment may have a hundred others."""
    converge(task("apple==2.0", "plum"), machine)
    read: list[str] = []
    files_outside = protection.files_outside

    def noted(prefix: Path, found: Iterable[Distribution]) -> Iterator[tuple[Distribution, Path]]:
        every = list(found)
        read.extend(distribution.name for distribution in every)
        return files_outside(prefix, every)

    monkeypatch.setattr(protection, "files_outside", noted)
    (tmp_path / "pylock.toml").write_text(lock(named(wheels, "apple", "1.1")))
    converge(task(requirements=str(tmp_path / "pylock.toml")), machine)
    assert read == ["apple"]


@ENGINES
@pytest.mark.parametrize("damaged", ["apple-1.1", "pear-1.0"])
def test_a_tampered_wheel_is_a_hash_mismatch_and_nothing_is_changed(
    task: Task, machine: Machine, written: Path, wheels: Path, prefix: Path, engine: str, damaged: str
) -> None:
    tampered(wheels / f"{damaged}-py3-none-any.whl")
    wanted = task(requirements=str(written), engine=engine)
    plan = wanted.plan(wanted.read(machine))
    before = content(prefix)
    with pytest.raises(TaskFailed, match="hash mismatch") as raised:
        wanted.apply(plan, machine)
    assert damaged.partition("-")[0] in raised.value.cause
    after = content(prefix)
    after.pop(str(prefix / ".lock"), None)  # of uv itself
    assert after == before


def test_no_setting_of_uv_weakens_the_check_of_hashes(
    task: Task, machine: Machine, written: Path, wheels: Path, home: Path
) -> None:
    (home / ".config/uv").mkdir(parents=True)
    (home / ".config/uv/uv.toml").write_text("[pip]\nverify-hashes = false\nno-binary = [':all:']\n")
    good = wheels / "pear-1.0-py3-none-any.whl"
    content_of_wheel = good.read_bytes()
    tampered(good)
    with pytest.raises(TaskFailed, match="hash mismatch"):
        converge(task(requirements=str(written)), machine)
    good.write_bytes(content_of_wheel)
    converge(task(requirements=str(written)), machine)


# ---------------------------------------------------------------------------------------- markers, extras and groups

_CASES = {
    "a marker that holds": ("marker = \"python_version >= '3.8'\"\n", "", True),
    "a marker that does not": ("marker = \"sys_platform == 'win32'\"\n", "", False),
    "an extra": ("marker = \"'jam' in extras\"\n", 'extras = ["jam"]', False),
    "a group": ("marker = \"'dev' in dependency_groups\"\n", 'dependency-groups = ["dev"]', False),
    "a default group": ("marker = \"'dev' in dependency_groups\"\n", 'default-groups = ["dev"]', True),
}


@pytest.mark.parametrize("case", _CASES)
def test_markers_extras_and_groups_are_those_of_an_install_without_any(
    task: Task, machine: Machine, wheels: Path, tmp_path: Path, case: str
) -> None:
    marker, head, applies = _CASES[case]
    path = tmp_path / "pylock.fruit.toml"
    path.write_text(lock(named(wheels, "plum", "1.0", marker), named(wheels, "apple", "1.0"), head=head))
    names = [change.target for change in converge(task(requirements=str(path)), machine)]
    assert sorted(names) == (["apple", "plum"] if applies else ["apple"])


@pytest.mark.parametrize(
    ("version", "folder", "name"),
    [
        ("3.9.1", "lib/python3.9/site-packages", "x-1.0-cp39-cp39-manylinux_2_5_x86_64.whl"),
        ("3.12.4", "lib/python3.12/site-packages", "x-1.0-cp38-abi3-manylinux_2_5_x86_64.whl"),
        ("3.13.0", "lib/python3.13t/site-packages", "x-1.0-cp313-cp313t-manylinux_2_5_x86_64.whl"),
        ("3.14.0", "lib/python3.14/site-packages", "x-1.0-py3-none-any.whl"),
    ],
)
@pytest.mark.skipif(os.uname().machine != "x86_64", reason="the names of the wheels are of x86_64")
def test_the_wheel_is_that_of_the_target_and_not_of_our_python(version: str, folder: str, name: str) -> None:
    names = [
        "x-1.0-cp39-cp39-manylinux_2_5_x86_64.whl", "x-1.0-cp38-abi3-manylinux_2_5_x86_64.whl",
        "x-1.0-cp313-cp313t-manylinux_2_5_x86_64.whl", "x-1.0-cp312-cp312-win_amd64.whl", "x-1.0-py3-none-any.whl",
    ]  # fmt: skip
    if name.startswith("x-1.0-py3"):
        names.remove("x-1.0-cp38-abi3-manylinux_2_5_x86_64.whl")
    wheels = [f'{{ url = "https://h.example/{each}", hashes = {{ sha256 = "{"0" * 64}" }} }}' for each in names]
    locked = pylock.read(Path("/pylock.toml"), lock(package("x", "1.0", *wheels)))
    (chosen,) = pylock.fitting(locked.packages, pylock.target_tags(version, Path("/p", folder)), {})
    assert [wheel.filename for wheel in chosen.package.wheels or ()] == [name]


# ----------------------------------------------------------------------------------------------- locks by other tools


@ENGINES
def test_a_lock_that_uv_has_made(
    task: Task, machine: Machine, wheels: Path, prefix: Path, tmp_path: Path, engine: str
) -> None:
    (tmp_path / "in.txt").write_text("pear[jam]\n")
    words = ["pip", "compile", "in.txt", "--no-index", "--find-links", wheels, "--format", "pylock.toml"]
    words += ["--output-file", "pylock.toml", "--universal", "--no-config", "--python", sys.executable]
    environment = {"UV_CACHE_DIR": str(tmp_path / "cache"), "PATH": os.environ["PATH"]}
    done = subprocess.run(
        [uv.find_uv_bin(), *map(str, words)], cwd=tmp_path, capture_output=True, text=True, env=environment
    )
    assert done.returncode == 0, done.stderr
    wanted = task(requirements=str(tmp_path / "pylock.toml"), engine=engine)
    assert [change.target for change in converge(wanted, machine)] == ["apple", "pear", "plum"]


@ENGINES
def test_a_lock_that_pip_has_made(task: Task, machine: Machine, wheels: Path, tmp_path: Path, engine: str) -> None:
    words = ["-m", "pip", "lock", "pear", "--output", str(tmp_path / "pylock.toml")]
    environment = {"PIP_NO_INDEX": "1", "PIP_FIND_LINKS": str(wheels), "PATH": os.environ["PATH"]}
    done = subprocess.run([sys.executable, *words], capture_output=True, text=True, env=environment, cwd=tmp_path)
    if "unknown command" in done.stderr:
        pytest.skip("this pip has no `pip lock`")
    assert done.returncode == 0, done.stderr
    wanted = task(requirements=str(tmp_path / "pylock.toml"), engine=engine)
    assert [change.target for change in converge(wanted, machine)] == ["apple", "pear"]


# ------------------------------------------------------------------------------------------------ where files come from


@pytest.fixture
def served(wheels: Path, machine: Machine) -> Iterator[FileServer]:
    """A server that has the wheels below /files/, and an index that must not be asked."""
    with serving_files() as server:
        for wheel in wheels.iterdir():
            server.files[f"/files/{wheel.name}"] = wheel.read_bytes()
        for name in ("PIP_NO_INDEX", "PIP_FIND_LINKS"):
            machine.env.pop(name, None)
        machine.env["PIP_INDEX_URL"] = f"{server.url}/simple"
        yield server


def of_server(server: FileServer, wheels: Path) -> str:
    entries = []
    for stem in ("apple-1.1", "pear-1.0"):
        wheel = wheels / f"{stem}-py3-none-any.whl"
        more = f'index = "{server.url}/simple"\n'
        entries.append(package(*stem.split("-"), file(wheel, f"{server.url}/files/{wheel.name}"), more=more))
    return lock(*entries)


@ENGINES
def test_the_files_are_fetched_and_no_page_of_an_index(
    task: Task, machine: Machine, wheels: Path, served: FileServer, tmp_path: Path, engine: str
) -> None:
    (tmp_path / "pylock.toml").write_text(of_server(served, wheels))
    assert told(converge(task(requirements=str(tmp_path / "pylock.toml"), engine=engine), machine)) == BOTH
    asked = {request.path for request in served.requests}
    assert asked == {"/files/apple-1.1-py3-none-any.whl", "/files/pear-1.0-py3-none-any.whl"}


@ENGINES
def test_the_password_of_the_index_is_put_back_and_never_shown(
    task: Task, machine: Machine, wheels: Path, served: FileServer, tmp_path: Path, engine: str
) -> None:
    served.user = "reader:very-secret-word"
    machine.env["PIP_INDEX_URL"] = served.url.replace("://", "://reader:very-secret-word@") + "/simple"
    (tmp_path / "pylock.toml").write_text(of_server(served, wheels))
    wanted = task(requirements=str(tmp_path / "pylock.toml"), engine=engine)
    assert told(converge(wanted, machine)) == BOTH
    held = [path for path in tmp_path.rglob("*") if path.is_file() and b"very-secret-word" in path.read_bytes()]
    assert held == []
    (wheel,) = wheels.glob("pear-1.0*")
    other = tmp_path / "pylock.other.toml"
    other.write_text((tmp_path / "pylock.toml").read_text().replace(digest(wheel), "0" * 64))
    with pytest.raises(TaskFailed, match="hash mismatch") as raised:
        converge(EnsurePipPkg(env=str(venv(tmp_path / "other")), requirements=str(other), engine=engine), machine)
    assert "very-secret-word" not in raised.value.text


@pytest.mark.parametrize(
    ("url", "credentials"),
    [
        ("https://a.example/b/x.whl", "second:two"),
        ("https://a.example/a/files/x.whl", "first:one"),
        ("https://A.example/c/x.whl", "first:one"),
        ("http://a.example/a/x.whl", ""),
        ("https://a.example:8443/a/x.whl", ""),
        ("https://own:word@a.example/a/x.whl", "own:word"),
        ("file:///a/x.whl", ""),
    ],
)
def test_credentials_are_of_the_nearest_index_on_the_same_server(url: str, credentials: str) -> None:
    settings = IndexSettings(
        index_url="https://first:one@a.example/a/simple", extra_urls=("https://second:two@a.example/b/simple",)
    )
    assert with_credentials(url, settings).rpartition("@")[0].partition("//")[2] == credentials


@ENGINES
def test_without_a_network_files_come_from_where_the_machine_has_them(
    task: Task, machine: Machine, wheels: Path, tmp_path: Path, engine: str
) -> None:
    copies, names = tmp_path / "bundle", ("apple-1.1-py3-none-any.whl", "pear-1.0-py3-none-any.whl")
    copies.mkdir()
    for name in names:
        (wheels / name).rename(copies / name)
    entries = [
        package(*name.split("-")[:2], file(copies / name, f"https://nowhere.invalid/files/{name}")) for name in names
    ]
    (tmp_path / "pylock.toml").write_text(lock(*entries))
    machine.archives = Archives({f"https://nowhere.invalid/files/{name}": copies / name for name in names})
    assert told(converge(task(requirements=str(tmp_path / "pylock.toml"), engine=engine), machine)) == BOTH


@ENGINES
def test_a_path_starts_from_the_lock(task: Task, machine: Machine, wheels: Path, tmp_path: Path, engine: str) -> None:
    path = tmp_path / "some where/pylock.toml"
    path.parent.mkdir()
    wheel = wheels / "apple-1.0-py3-none-any.whl"
    path.write_text(lock(package("apple", "1.0", file(wheel, f"../wheels/{wheel.name}", key="path"))))
    wanted = task(requirements=str(path), engine=engine)
    assert {each.path for each in wanted.inputs(machine)} == {path, wheel}
    converge(wanted, machine)
    wheel.unlink()
    assert planned(wanted, machine) == (), "what is installed needs its file no longer"


@ENGINES
def test_a_folder_an_archive_and_a_repository(
    task: Task, machine: Machine, prefix: Path, tmp_path: Path, env: dict[str, str], engine: str
) -> None:
    who = {"GIT_AUTHOR_NAME": "a", "GIT_AUTHOR_EMAIL": "a@b", "GIT_COMMITTER_NAME": "a", "GIT_COMMITTER_EMAIL": "a@b"}

    def git(*words: str) -> str:
        done = subprocess.run(
            ["git", *words], cwd=project, check=True, capture_output=True, text=True, env={**env, **who}
        )
        return done.stdout.strip()

    project = make_project(tmp_path / "project")
    git("init", "--quiet")
    git("add", ".")
    git("commit", "--quiet", "--message=one")
    packed = tmp_path / "mine-0.1.tar.gz"
    with tarfile.open(packed, "w:gz") as archive:
        archive.add(project, "mine-0.1", filter=lambda entry: None if ".git" in entry.name else entry)
    sources = {
        "vcs": f'{{ type = "git", url = "{project.as_uri()}", commit-id = "{git("rev-parse", "HEAD")}" }}',
        "directory": '{ path = "project", editable = true }',
        "archive": file(packed, packed.name, key="path"),
    }
    path = tmp_path / "pylock.toml"
    for kind, source in sources.items():
        path.write_text(lock(package("mine", "0.1", more=f"{kind} = {source}\n")))
        wanted = task(requirements=str(path), engine=engine)
        assert [change.target for change in converge(wanted, machine)] == ["mine"], kind
        (installed,) = distributions.installed(prefix)["mine"]
        assert installed.direct_url is not None, kind
        assert asked_of(prefix, "import mine; print(mine.x)") == "1"
        machine.forget()


@ENGINES
def test_an_archive_from_a_copy_is_in_place_without_the_copy(
    task: Task, machine: Machine, prefix: Path, tmp_path: Path, engine: str
) -> None:
    """It is recorded as from its URL, where the installers record the place of the copy."""
    project, packed = make_project(tmp_path / "project"), tmp_path / "mine-0.1.tar.gz"
    with tarfile.open(packed, "w:gz") as archive:
        archive.add(project, "mine-0.1")
    url, path = "https://nowhere.invalid/mine-0.1.tar.gz", tmp_path / "pylock.toml"
    path.write_text(lock(package("mine", "0.1", more=f"archive = {file(packed, url)}\n")))
    wanted = task(requirements=str(path), engine=engine)
    machine.archives = Archives({url: packed})
    assert [change.target for change in converge(wanted, machine)] == ["mine"]
    machine.archives = Archives()
    packed.unlink()
    machine.forget()
    assert planned(wanted, machine) == ()
    (installed,) = distributions.installed(prefix)["mine"]
    assert installed.direct_url is not None
    assert installed.direct_url.url == url
    assert installed.files_missing(digests=machine.digests) == []


@ENGINES
def test_damage_is_repaired_from_the_lock(
    task: Task, machine: Machine, written: Path, prefix: Path, engine: str
) -> None:
    wanted = task(requirements=str(written), engine=engine, deep=True)
    converge(wanted, machine)
    (module,) = prefix.glob("lib/*/site-packages/pear.py")
    module.unlink()
    machine.forget()
    assert told(converge(wanted, machine)) == [("reinstall", "pear", "1.0", "1.0")]
    assert asked_of(prefix, "import pear; print(pear.version)") == "1.0"


@ENGINES
def test_a_source_distribution_is_built_if_no_wheel_fits(
    task: Task, machine: Machine, wheels: Path, prefix: Path, tmp_path: Path, engine: str
) -> None:
    source = wheels / "mine-0.1.tar.gz"
    with tarfile.open(source, "w:gz") as archive:
        (make_project(tmp_path / "project") / "PKG-INFO").write_text(
            "Metadata-Version: 2.1\nName: mine\nVersion: 0.1\n"
        )
        archive.add(tmp_path / "project", "mine-0.1")
    other = f'{{ url = "https://h.example/mine-0.1-cp27-cp27m-win32.whl", hashes = {{ sha256 = "{"0" * 64}" }} }}'
    path = tmp_path / "pylock.toml"
    path.write_text(lock(package("mine", "0.1", other, more=f"sdist = {file(source)}\n")))
    assert told(converge(task(requirements=str(path), engine=engine), machine)) == [("install", "mine", None, "0.1")]
    assert asked_of(prefix, "import mine; print(mine.x)") == "1"


# --------------------------------------------------------------------------------------------- beside other parameters


@ENGINES
def test_other_requirements_are_resolved_around_the_lock(
    task: Task, machine: Machine, written: Path, wheels: Path, prefix: Path, engine: str
) -> None:
    make_wheel(wheels, "fig", "1.0", requires=["apple"])
    wanted = task("fig", "apple>=1", requirements=str(written), engine=engine)
    assert sorted(told(converge(wanted, machine))) == sorted([*BOTH, ("install", "fig", None, "1.0")])
    assert asked_of(prefix, "import apple; print(apple.version)") == "1.1"


@pytest.mark.parametrize("engine", ["uv", "pip"])
def test_what_cannot_be_had_around_the_lock_fails_before_anything_is_changed(
    task: Task, machine: Machine, written: Path, wheels: Path, prefix: Path, engine: str
) -> None:
    make_wheel(wheels, "fig", "1.0", requires=["apple>=2"])
    with pytest.raises(TaskFailed):
        converge(task("fig", requirements=str(written), engine=engine), machine)
    assert distributions.installed(prefix) == {}


def test_a_requirement_or_constraint_that_contradicts_the_lock(
    task: Task, machine: Machine, written: Path, tmp_path: Path
) -> None:
    (tmp_path / "c.txt").write_text("# ours\napple<1.1\n")
    with pytest.raises(InvalidPlaybook, match=r"'apple<1.1' contradicts the lock, which has apple==1.1") as raised:
        planned(task(requirements=str(written), constraints=str(tmp_path / "c.txt")), machine)
    assert raised.value.position == (str(tmp_path / "c.txt"), 2, 1)
    with pytest.raises(InvalidPlaybook, match=r"'pear==2.0' contradicts the lock"):
        planned(task("pear==2.0", requirements=str(written)), machine)
    (tmp_path / "pylock.more.toml").write_text(written.read_text().replace("1.1", "1.0"))
    with pytest.raises(InvalidPlaybook, match=r"apple==1.1' contradicts the lock, which has apple==1.0"):
        planned(task(requirements=[str(written), str(tmp_path / "pylock.more.toml")]), machine)


def test_latest_and_a_lock_contradict_each_other_and_absent_removes(
    task: Task, machine: Machine, written: Path, prefix: Path
) -> None:
    with pytest.raises(ParameterError, match="`state: latest` contradicts the lock") as raised:
        task(requirements=str(written), state="latest").check()
    assert raised.value.key == "requirements"
    converge(task("plum", requirements=str(written)), machine)
    gone = converge(task(requirements=str(written), state="absent"), machine)
    assert sorted(change.target for change in gone) == ["apple", "pear"]
    assert set(distributions.installed(prefix)) == {"plum"}


@ENGINES
def test_into_a_target_folder(
    task: Task, machine: Machine, written: Path, prefix: Path, tmp_path: Path, engine: str
) -> None:
    folder = tmp_path / "packages"
    converge(task(requirements=str(written), target=str(folder), engine=engine), machine)
    assert set(distributions.in_folder(folder)) == {"apple", "pear"}
    assert distributions.installed(prefix) == {}


def test_a_virtual_environment_by_a_lock(written: Path, machine: Machine, tmp_path: Path) -> None:
    wanted = EnsureVenv(path=str(tmp_path / "made"), requirements=str(written))
    assert told(planned(wanted, machine))[1:] == BOTH
    converge(wanted, machine)
    assert versions(tmp_path / "made") == {"apple": "1.1", "pear": "1.0"}


def test_a_requirements_file_names_a_lock(task: Task, machine: Machine, written: Path, tmp_path: Path) -> None:
    (tmp_path / "requirements.txt").write_text("-r pylock.toml\nplum\n")
    wanted = task(requirements=str(tmp_path / "requirements.txt"))
    assert {each.path for each in wanted.inputs(machine)} == {tmp_path / "requirements.txt", written}
    assert sorted(change.target for change in converge(wanted, machine)) == ["apple", "pear", "plum"]


def test_a_lock_cannot_be_constraints(task: Task, machine: Machine, written: Path, tmp_path: Path) -> None:
    (tmp_path / "requirements.txt").write_text("plum\n-c pylock.toml\n")
    with pytest.raises(InvalidPlaybook, match="cannot be a constraints file") as raised:
        planned(task(requirements=str(tmp_path / "requirements.txt")), machine)
    assert raised.value.position == (str(tmp_path / "requirements.txt"), 2, 1)


# ------------------------------------------------------------------------------------------------- what is left alone


@ENGINES
def test_what_the_image_brought_is_replaced_only_where_that_is_allowed(
    env: dict[str, str], tmp_path: Path, engine: str
) -> None:
    instance = Instance(tmp_path, env)
    prefix = instance.provide("python3", ("apple", "1.0"))
    wheel = make_wheel(instance.wheels, "apple", "2.0")
    more = make_wheel(instance.wheels, "plum", "1.0")
    path = tmp_path / "pylock.toml"
    path.write_text(lock(package("apple", "2.0", file(wheel)), package("plum", "1.0", file(more))))
    text = f"- ensure_pip_pkg: {{requirements: {path}, env: python3, engine: {engine}MORE}}"
    before = content(prefix)
    error = instance.bad(text.replace("MORE", ""))
    assert "apple 1.0 -> 2.0" in error.cause
    assert "allow_platform_changes: true" in error.cure
    assert content(prefix) == before
    assert instance.good(text.replace("MORE", ", allow_platform_changes: true")) == ["changed"]
    assert versions(prefix) == {"apple": "2.0", "plum": "1.0"}


@ENGINES
def test_what_conda_installed_is_replaced_only_where_that_is_allowed(
    task: Task, machine: Machine, written: Path, prefix: Path, engine: str
) -> None:
    converge(task("apple==1.0"), machine)
    folder = distributions.installed(prefix)["apple"][0].path
    (folder / "INSTALLER").write_text("conda\n")
    machine.forget()
    with pytest.raises(TaskFailed, match="would replace packages that conda installed") as raised:
        planned(task(requirements=str(written), engine=engine), machine)
    assert raised.value.cause == "apple 1.0 would become 1.1"
    assert "--excludes" in raised.value.cure
    converge(task(requirements=str(written), engine=engine, allow_platform_changes=True), machine)
    assert versions(prefix) == {"apple": "1.1", "pear": "1.0"}


def test_what_conda_has_in_the_locked_version_stays(task: Task, machine: Machine, written: Path, prefix: Path) -> None:
    converge(task("apple==1.1"), machine)
    folder = distributions.installed(prefix)["apple"][0].path
    (folder / "INSTALLER").write_text("conda\n")
    machine.forget()
    assert told(converge(task(requirements=str(written)), machine)) == [BOTH[1]]
    assert (folder / "INSTALLER").read_text() == "conda\n"


def test_what_conda_is_about_to_install_counts_in_the_locked_version_only(
    task: Task, machine: Machine, written: Path, prefix: Path
) -> None:
    python = ".".join(map(str, sys.version_info[:3]))
    machine.foretold[prefix] = Foretold(python, {"apple": "2.0", "pear": "1.0"}, whole=True)
    assert [change.target for change in planned(task(requirements=str(written)), machine)] == ["apple"]


# ------------------------------------------------------------------------------------------------------------- faults

WHEEL = f'wheels = [{{ url = "https://h.example/x-1.0-py3-none-any.whl", hashes = {{ sha256 = "{"0" * 64}" }} }}]\n'
FAULTS = {
    "not TOML": ('lock-version = "1.0"\ncreated-by =\n', 2, "the lock is not TOML"),
    "a newer version": ('created-by = "x"\nlock-version = "2.0"\npackages = []\n', 2, "not supported: 2.0"),
    "no version": ('created-by = "x"\n', 1, "the lock is not valid"),
    "no hashes": (
        lock(package("y", "1.0", more='directory = { path = "." }\n'), package("x", "1.0", '{ url = "https://h/x-1.0-py3-none-any.whl" }')),
        9,
        "a file of x has no hash",
    ),
    "an empty hash": (lock(package("x", "1.0", '{ path = "x-1.0-py3-none-any.whl", hashes = {} }')), 4, "has no hash"),
    "md5 only": (
        lock(package("x", "1.0", f'{{ path = "x-1.0-py3-none-any.whl", hashes = {{ md5 = "{"0" * 32}" }} }}')),
        4,
        "only hashes that are not safe",
    ),
    "a wrong name": (lock(f'[[packages]]\nname = "Not_Normal"\n{WHEEL}'), 4, "the lock is not valid"),
    "an unknown scheme": (lock(f'[[packages]]\nname = "x"\n{WHEEL}'.replace("https:", "ext:")), 4, "cannot be the source"),
    "an address that is not a URL": (
        lock('[[packages]]\nname = "x"\nvcs = { type = "git", url = "git@h.example:x.git", commit-id = "abc" }\n'),
        4,
        "cannot be the source",
    ),
    "an option as a revision": (
        lock('[[packages]]\nname = "x"\nvcs = { type = "git", url = "https://h.example/x", commit-id = "--upload-pack" }\n'),
        4,
        "cannot be the source",
    ),
}  # fmt: skip


@pytest.mark.parametrize("fault", FAULTS)
def test_faults_of_the_file_have_a_line(task: Task, machine: Machine, tmp_path: Path, fault: str) -> None:
    text, line, message = FAULTS[fault]
    path = tmp_path / "pylock.toml"
    path.write_text(text)
    wanted = task(requirements=str(path))
    ways: list[Callable[[], object]] = [lambda: planned(wanted, machine), lambda: list(wanted.inputs(machine))]
    for way in ways:
        with pytest.raises(InvalidPlaybook, match=message) as raised:
            way()
        assert raised.value.position is not None
        assert raised.value.position[:2] == (str(path), line)
        assert raised.value.cure


UNFIT = {
    "the lock's Python": (lock(head='requires-python = "<3"') + "packages = []\n", 3, "is not for Python 3"),
    "a package's Python": (
        lock(f'[[packages]]\nname = "x"\nversion = "1.0"\nrequires-python = "<3"\n{WHEEL}'), 4, "locked x 1.0 does not support",
    ),
    "the platform": (
        lock(f'[[packages]]\nname = "x"\n{WHEEL}'.replace("py3-none-any", "cp27-cp27m-win32")), 4, "has no file of x 1.0 for",
    ),
    "environments": (lock(head="environments = [\"sys_platform == 'win32'\"]") + "packages = []\n", 1, "is not for this env"),
    "two versions": (lock(f'[[packages]]\nname = "x"\n{WHEEL}' * 2), 7, "has x twice"),
}  # fmt: skip


@pytest.mark.parametrize("case", UNFIT)
def test_a_lock_that_is_not_for_this_python_or_platform(
    task: Task, machine: Machine, tmp_path: Path, case: str
) -> None:
    text, line, message = UNFIT[case]
    path = tmp_path / "pylock.toml"
    path.write_text(text)
    with pytest.raises(ProvisionError, match=message) as raised:
        planned(task(requirements=str(path)), machine)
    assert raised.value.position is not None
    assert raised.value.position[:2] == (str(path), line)
    if case == "the platform":
        assert "x-1.0-cp27-cp27m-win32.whl" in raised.value.cause


def test_a_missing_file_of_a_lock(task: Task, machine: Machine, tmp_path: Path) -> None:
    path = tmp_path / "pylock.toml"
    path.write_text(lock(f'[[packages]]\nname = "x"\n{WHEEL}'.replace("url", "path").replace("https://h.example/", "")))
    with pytest.raises(TaskFailed, match=f"{tmp_path}/x-1.0-py3-none-any.whl is missing"):
        planned(task(requirements=str(path)), machine)


def test_an_exact_version_is_exact(written: Path) -> None:
    """The specifier ==1.0 allows 1.0+cpu as well, which is another file."""
    locked = pylock.read(written, lock(f'[[packages]]\nname = "x"\nversion = "1.0"\n{WHEEL}'))
    (entry,) = locked.select(requirements.marker_environment("3.11"))

    def needs(version: str) -> list[str]:
        folder = written.parent / f"x-{version}.dist-info"
        folder.mkdir()
        for name in ("METADATA", "RECORD"):
            (folder / name).touch()
        installed = {"x": [distributions.Distribution("x", version, folder)]}
        return [need.reason for need in unsatisfied([entry.requirement], (), installed, {})]

    assert needs("1.0+cpu") == ["version"]
    assert needs("1.0.0") == []
