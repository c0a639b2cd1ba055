"""`nbprovision bundle` and `run --bundle`: a machine without a network gets exactly what was locked, or nothing."""

from __future__ import annotations

import gzip
import io
import json
import os
import shutil
import signal
import subprocess
import sys
import tarfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from nbprovision.bundle import archive
from nbprovision.bundle.make import FETCHING
from nbprovision.catalogue import Catalogue
from nbprovision.machine.platform import conda_subdir
from tests.conftest import Channel, measurement, registry_settings
from tests.support.file_server import FileServer, serving_files
from tests.support.locking import BOTH, put_channel, put_index
from tests.support.locking import Team as LockedTeam
from tests.support.wheels import make_project, make_wheel

pytestmark = [pytest.mark.engine, pytest.mark.network, pytest.mark.proof]
FAULTS = Path(__file__).parents[1] / "reliability/faults.py"
PLAYBOOK = """
- vars_files: [more.yml]
  tasks:
    - ensure_conda_env: {{name: one, packages: [python, pip, idna], channels: ["{url}/conda"]}}
    - ensure_conda_env: {{name: two, packages: [python, pip], channels: ["{url}/conda"]}}
    - ensure_pip_pkg: {{envs: [one, two], packages: [pear]}}
    - ensure_pip_pkg: {{env: one, requirements: requirements.txt}}
    - ensure_file: {{path: "{{{{ nb.home }}}}/picture.png", src: picture.png}}
"""


class Bundled:
    """A team's folder with a bundle, and machines that get it.

    Attributes:
        tar: The bundle.
        server: The server of the channel and the index, which nobody asks once the bundle is made.

    """

    def __init__(self, folder: Path, channel: Channel, tool_wheels: Path, server: FileServer) -> None:
        self.folder = folder
        self.server = server
        server.content_type = "text/html"
        self.playbook = folder / "team.yml"
        self.tar = folder / "team.tar"
        put_channel(server, channel.path)
        wheels = folder / "wheels"
        wheels.mkdir()
        make_wheel(wheels, "pear", "1.0", requires=["plum"])
        make_wheel(wheels, "plum", "2.0")
        make_wheel(folder / "own", "quince", "3.0")
        _make_sdist(folder, wheels)
        put_index(server, wheels)
        put_index(server, tool_wheels)
        self.playbook.write_text(PLAYBOOK.format(url=server.url))
        (folder / "more.yml").write_text("fruit: pear\n")
        (folder / "requirements.txt").write_text("mine\n./own/quince-3.0-py3-none-any.whl\n")
        (folder / "picture.png").write_bytes(b"\x89PNG\0" * 40_000)
        self.home = self.builder = folder / "builder"

    def env(self, **more: str) -> dict[str, str]:
        kept = {name: value for name, value in registry_settings().items() if "INDEX" not in name}
        home = {"HOME": str(self.home), "NBPROVISION_HOME": str(self.home / "nbprovision")}
        return {"PATH": os.environ["PATH"], "LANG": "C.UTF-8", **kept, **measurement(), **home, **more}

    def call(self, *words: str, status: int = 0, env: dict[str, str] | None = None) -> subprocess.CompletedProcess[str]:
        self.home.mkdir(exist_ok=True)
        argv = [sys.executable, "-m", "nbprovision", *words]
        done = subprocess.run(argv, env=env or self.env(), capture_output=True, text=True, check=False, cwd=self.folder)
        assert done.returncode == status, done.stdout + done.stderr
        assert "Traceback" not in done.stderr
        return done

    def build(self, *words: str, output: Path | None = None, status: int = 0) -> subprocess.CompletedProcess[str]:
        """Make the bundle; all packages come from the server."""
        env = self.env(PIP_INDEX_URL=f"{self.server.url}/simple")
        env |= {"HOME": str(self.builder), "NBPROVISION_HOME": str(self.builder / "nbprovision")}
        argv = ("bundle", str(self.playbook), "-o", str(output or self.tar), *words)
        return self.call(*argv, env=env, status=status)

    def run(self, *words: str, tar: Path | None = None, status: int = 0) -> Any:
        """Run the bundle, with no index that answers."""
        self.server.requests.clear()
        env = self.env(PIP_INDEX_URL="http://127.0.0.1:9/simple", https_proxy="http://127.0.0.1:9")
        argv = ("run", "--format", "json", "--bundle", str(tar or self.tar), *words)
        done = self.call(*argv, env=env, status=status)
        assert self.server.requests == []
        return json.loads(done.stdout) if status in (0, 2) else done.stderr

    def prefix(self, name: str) -> Path:
        return self.home / f"nbprovision/envs/{name}"

    def packages(self, name: str) -> set[tuple[str, str]]:
        """Name and digest of what an environment has."""
        records = [json.loads(path.read_text()) for path in self.prefix(name).glob("conda-meta/*.json")]
        found = self.prefix(name).glob("lib/python*/site-packages/*.dist-info")
        return {(record["name"], record["sha256"]) for record in records} | {
            (path.name, (path / "RECORD").read_text())
            for path in found
            if path.name.startswith(("pear", "plum", "mine"))
        }


def _make_sdist(folder: Path, wheels: Path) -> None:
    """A distribution of which the index has no wheel."""
    project = make_project(folder / "project")
    (project / "PKG-INFO").write_text("Metadata-Version: 2.1\nName: mine\nVersion: 0.1\n")
    with tarfile.open(wheels / "mine-0.1.tar.gz", "w:gz") as packed:
        packed.add(project, "mine-0.1")


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory, channel: Channel, tool_wheels: Path) -> Iterator[Bundled]:
    with serving_files() as server:
        team = Bundled(tmp_path_factory.mktemp("team"), channel, tool_wheels, server)
        told = team.build()
        assert "has no lock: writing" in told.stderr
        yield team


@pytest.fixture
def bundled(made: Bundled, tmp_path: Path) -> Bundled:
    """The bundle, and a new home."""
    made.home = tmp_path / "home"
    return made


def test_two_homes_get_the_same_without_a_network(bundled: Bundled, tmp_path: Path) -> None:
    installed = []
    for name in ("two", "three"):
        bundled.home = tmp_path / name
        assert bundled.run()["status"] == "changed"
        installed.append(bundled.packages("one") | bundled.packages("two"))
    assert installed[0] == installed[1]
    names = {name for name, _ in installed[0]}
    assert {"python", "idna", "pear-1.0.dist-info", "plum-2.0.dist-info", "mine-0.1.dist-info"} <= names
    ran = subprocess.run(
        [bundled.prefix("one") / "bin/python", "-B", "-c", "import pear, mine, quince; print(quince.version, mine.x)"],
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert ran.stdout == "3.0 1\n"
    assert (bundled.home / "nbprovision/picture.png").read_bytes() == b"\x89PNG\0" * 40_000

    again = bundled.run()
    assert {task["proof"] for task in again["tasks"]} == {"witness"}
    assert {task["status"] for task in bundled.run("--no-witness", "--deep")["tasks"]} == {"ok"}
    # Each archive was unpacked once: the environments and the caches share the files.
    for file in ("lib/python*/os.py", "lib/python*/site-packages/pear.py"):
        (first,), (second,) = (list(bundled.prefix(name).glob(file)) for name in ("one", "two"))
        assert first.stat().st_ino == second.stat().st_ino
    assert not (bundled.home / "nbprovision/cache/bundled").exists()


def test_lost_packages_come_back_from_the_bundle(bundled: Bundled) -> None:
    bundled.run()
    shutil.rmtree(bundled.prefix("two"))
    shutil.rmtree(bundled.home / "nbprovision/cache")
    assert bundled.run()["counts"]["changed"] == 2
    assert bundled.packages("two")


def test_another_bundle_in_the_place_is_looked_at(bundled: Bundled, tmp_path: Path) -> None:
    tar = tmp_path / "team.tar"
    shutil.copy(bundled.tar, tar)
    bundled.run(tar=tar)
    (folder,) = (bundled.home / "nbprovision/bundles").iterdir()
    before = {path: path.stat().st_mtime_ns for path in (folder / "files").rglob("*") if path.is_file()}
    first = bundled.playbook.read_text()
    bundled.playbook.write_text(first.replace('picture.png", src', 'image.png", src'))
    try:
        bundled.build(output=tar)
    finally:
        bundled.playbook.write_text(first)
    done = bundled.run(tar=tar)
    assert [task["task"] for task in done["tasks"] if task["status"] == "changed"] == ["ensure_file"], [
        task["changes"] for task in done["tasks"]
    ]
    assert (bundled.home / "nbprovision/image.png").exists()
    changed = {path.name for path, time in before.items() if path.stat().st_mtime_ns != time}
    assert changed == {"team.yml"}


def test_made_again_it_is_the_same_file(bundled: Bundled, tmp_path: Path) -> None:
    bundled.build(output=tmp_path / "again.tar")
    assert (tmp_path / "again.tar").read_bytes() == bundled.tar.read_bytes()
    assert not (bundled.builder / "nbprovision/cache/bundle").exists()


def test_it_has_no_secret_and_no_path_of_the_machine(bundled: Bundled, tmp_path: Path) -> None:
    index = bundled.server.url.replace("://", "://joe:s3cret-w0rd@")
    env = bundled.env(PIP_INDEX_URL=f"{index}/simple")
    done = bundled.call("bundle", str(bundled.playbook), "-o", str(tmp_path / "x.tar"), env=env)
    log = (bundled.home / "nbprovision/log/nbprovision.log").read_bytes()
    content = (tmp_path / "x.tar").read_bytes()
    secret = "s3cret-w0rd"
    assert secret.encode() not in content + log
    assert secret not in done.stdout + done.stderr
    bundle = archive.read(tmp_path / "x.tar")
    for name in bundle.members:
        if not name.endswith((".whl", ".conda", ".bz2")):
            assert str(bundled.folder).encode() not in archive.content(bundle, name), name
    assert str(bundled.folder) not in json.dumps(bundle.manifest)


def _altered(content: bytes) -> bytes:
    place = content.index(b"idna-") + 4096
    return content[:place] + bytes([content[place] ^ 1]) + content[place + 1 :]


@pytest.mark.parametrize(
    ("change", "why"),
    [
        (_altered, "is altered"),
        (lambda content: content[: len(content) // 2], "unexpected end of data"),
        (lambda content: content[:-512], "its end is missing"),
        (gzip.compress, ""),
        (lambda content: b"- tasks: []\n", ""),
        (None, "does not exist"),
    ],
    ids=["altered", "half", "without its end", "compressed", "a playbook", "missing"],
)
def test_a_damaged_bundle_changes_nothing(
    bundled: Bundled, tmp_path: Path, change: Callable[[bytes], bytes] | None, why: str
) -> None:
    tar = tmp_path / "team.tar"
    if change is not None:
        tar.write_bytes(change(bundled.tar.read_bytes()))
    told = bundled.run(tar=tar, status=4)
    assert str(tar) in told
    assert why in told
    kept = [path for path in bundled.home.rglob("*") if path.is_file() and path.suffix != ".log"]
    assert kept == [], "nothing is installed, unpacked or recorded"


@pytest.mark.parametrize(
    ("change", "why"),
    [
        ({"playbook": None}, "`$.playbook`"),
        ({"playbook": "other.yml"}, "'playbook/other.yml', which it does not have"),
        ({"packages": {"https://x.invalid/x.whl": {"member": "x", "unpacked": 1}}}, "which it does not have"),
        ({"channels": []}, "`$.channels`"),
        ({"environments": {"one": {conda_subdir(): ["https://x.invalid/x.whl"]}}}, "which it does not have"),
        ({"platforms": ["linux-riscv64"]}, "is not for linux-"),
    ],
)
def test_a_bundle_of_another_making(tmp_path: Path, env: dict[str, str], change: dict[str, Any], why: str) -> None:
    """Every digest is right."""
    whole = {"playbook": "team.yml", "platforms": [conda_subdir()], "packages": {}, "environments": {}, "channels": {}}
    tar = tmp_path / "team.tar"
    with tar.open("wb") as stream:
        archive.write(stream, {**whole, **change}, {"bootstrap.sh": b"", "playbook/team.yml": b"- tasks: []\n"})
    argv = [sys.executable, "-m", "nbprovision", "run", "--bundle", str(tar)]
    done = subprocess.run(argv, env=env, capture_output=True, text=True, check=False, cwd="/")
    assert done.returncode == 4, done.stdout + done.stderr
    assert why in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize(("make", "kind"), [(os.mkfifo, "pipe"), (os.mkdir, "folder")])
def test_another_kind_of_file_is_refused_at_once(
    tmp_path: Path, env: dict[str, str], make: Callable[[Path], None], kind: str
) -> None:
    tar = tmp_path / "team.tar"
    make(tar)
    argv = [sys.executable, "-m", "nbprovision", "run", "--bundle", str(tar)]
    done = subprocess.run(argv, env=env, capture_output=True, text=True, check=False, cwd="/", timeout=60)
    assert done.returncode == 4
    assert kind in done.stderr


def test_what_fetches_at_each_run_is_a_kind_of_task() -> None:
    assert Catalogue().keys() >= FETCHING


def test_a_start_with_a_damaged_bundle_uses_the_playbook_of_the_last_one(bundled: Bundled, tmp_path: Path) -> None:
    """As bootstrap.sh calls it in a lifecycle hook, first as always and then with --last-good."""
    tar = tmp_path / "team.tar"
    shutil.copy(bundled.tar, tar)
    hook = bundled.env(NBPROVISION_PHASE="on-start")
    bundled.call("run", "--bundle", str(tar), env=hook)
    tar.write_bytes(tar.read_bytes()[:-1_000_000])
    told = bundled.call("run", "--bundle", str(tar), env=hook, status=4).stderr
    assert "truncated or altered" in told
    status = json.loads(bundled.call("status", "--format", "json").stdout)
    assert status["record"]["state"] == "failed"
    assert str(tar) in json.dumps(status["record"])
    (bundled.home / "nbprovision/picture.png").unlink()
    told = bundled.call("run", "--last-good", "--bundle", str(tar), env=hook).stderr
    assert "using the one that last succeeded" in told
    assert (bundled.home / "nbprovision/picture.png").exists()


def test_a_bundle_that_changes_after_its_check_installs_nothing_of_that(bundled: Bundled, tmp_path: Path) -> None:
    """Its size and times are the same, as a broken disk leaves them."""
    tar = tmp_path / "team.tar"
    shutil.copy2(bundled.tar, tar)
    bundled.run("--check", tar=tar)
    member = next(name for name in archive.read(bundled.tar).members if "/idna-" in name)
    place = archive.read(bundled.tar).members[member].offset + 100
    with tar.open("r+b") as stream:
        stream.seek(place)
        stream.write(bytes(64))
    (record,) = (bundled.home / "nbprovision/bundles").glob("*/record.json")
    content = json.loads(record.read_text())
    from nbprovision.state.witness import identity

    record.write_text(json.dumps({**content, "identity": identity(tar.stat())}))
    told = bundled.run(tar=tar, status=2)
    assert "has changed during the run" in json.dumps(told)
    assert not bundled.prefix("one").exists()


def test_too_little_space_is_told_before_anything_is_installed(bundled: Bundled) -> None:
    """The packages as the bundle's list has them; the file system as a user without root's reserve sees it."""
    code = (
        "import os, sys; real = os.statvfs; "
        "os.statvfs = lambda path: os.statvfs_result([*real(path)[:4], 4000, *real(path)[5:]]); "
        "from nbprovision.__main__ import main; sys.exit(main(sys.argv[1:]))"
    )
    argv = [sys.executable, "-c", code, "run", "--bundle", str(bundled.tar)]
    bundled.home.mkdir()
    done = subprocess.run(argv, env=bundled.env(), capture_output=True, text=True, check=False, cwd="/")
    assert done.returncode == 2, done.stdout + done.stderr
    assert "do not fit on the disk" in done.stderr
    assert "16 MB are free" in done.stderr
    assert not bundled.prefix("one").exists()


def test_the_lock_in_a_bundle_can_be_stale_for_a_machine(bundled: Bundled, tmp_path: Path) -> None:
    text = PLAYBOOK.format(url=bundled.server.url).replace("packages: [python, pip, idna]", "packages: '{{ wanted }}'")
    playbook = bundled.folder / "varied.yml"
    playbook.write_text(text.replace("- vars_files", "- vars: {wanted: [python, pip]}\n  vars_files"))
    first, bundled.playbook = bundled.playbook, playbook
    try:
        bundled.build(output=tmp_path / "varied.tar")
    finally:
        bundled.playbook = first
    told = bundled.run("-e", '{"wanted": ["python", "pip", "idna"]}', tar=tmp_path / "varied.tar", status=4)
    assert "one: spec added: idna" in told
    assert "make the bundle again" in told


def test_clean_removes_the_playbook_of_a_bundle_that_is_gone(bundled: Bundled, tmp_path: Path) -> None:
    tar = tmp_path / "team.tar"
    shutil.copy(bundled.tar, tar)
    bundled.run("--check")
    bundled.run("--check", tar=tar)
    tar.unlink()
    for name in ("bundle", "bundled"):  # as a kill leaves them
        (bundled.home / "nbprovision/cache" / name).mkdir(parents=True)
    told = json.loads(bundled.call("clean", "--format", "json").stdout)
    kinds = [item["what"] for item in told["items"]]
    assert kinds.count("playbook of a bundle that is gone") == 1
    assert kinds.count("files for a bundle") == 2
    assert len(list((bundled.home / "nbprovision/bundles").iterdir())) == 1
    assert bundled.run()["status"] == "changed"


@pytest.mark.parametrize("number", [3, 40, 150])
def test_a_killed_run_leaves_nothing_half_made(bundled: Bundled, tmp_path: Path, number: int) -> None:
    """Killed before the n-th change of a file: while the playbook is unpacked, or packages are taken out or linked."""
    bundled.home.mkdir()
    argv = [
        sys.executable,
        str(FAULTS),
        str(tmp_path),
        str(number),
        "before",
        "--",
        "run",
        "--bundle",
        str(bundled.tar),
    ]
    killed = subprocess.run(argv, env=bundled.env(), capture_output=True, check=False, cwd="/", start_new_session=True)
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    assert bundled.run()["status"] == "changed"
    assert {task["proof"] for task in bundled.run()["tasks"]} == {"witness"}
    assert {task["status"] for task in bundled.run("--no-witness", "--deep")["tasks"]} == {"ok"}
    assert not (bundled.home / "nbprovision/cache/bundled").exists()
    assert not list(bundled.home.rglob("*nbprovision-tmp*"))


def test_a_killed_bundle_command_leaves_the_old_file(bundled: Bundled, tmp_path: Path) -> None:
    tar = tmp_path / "team.tar"
    tar.write_text("the old one")
    words = ["bundle", str(bundled.playbook), "-o", str(tar)]
    argv = [sys.executable, str(FAULTS), str(tmp_path), "12", "before", "--", *words]
    env = bundled.env(PIP_INDEX_URL=f"{bundled.server.url}/simple")
    killed = subprocess.run(argv, env=env, capture_output=True, check=False, cwd=bundled.folder, start_new_session=True)
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    assert tar.read_text() == "the old one"
    bundled.call(*words, env=env)
    assert tar.read_bytes() == bundled.tar.read_bytes()
    assert not list(tmp_path.rglob("*nbprovision-tmp*"))


# ---------------------------------------------------------------------------------------------- what cannot be bundled


@pytest.fixture
def team(
    tmp_path: Path, env: dict[str, str], tool_wheels: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[LockedTeam]:
    """A team whose packages come from its server, for both platforms."""
    monkeypatch.delenv("PIP_CONSTRAINT", raising=False)
    with serving_files() as server:
        for name, value in {**env, "PIP_INDEX_URL": f"{server.url}/simple"}.items():
            monkeypatch.setenv(name, value)
        monkeypatch.delenv("UV_DEFAULT_INDEX", raising=False)
        monkeypatch.chdir(tmp_path)
        made = LockedTeam(tmp_path / "team", server)
        put_index(server, tool_wheels)
        yield made


def bundle(team: LockedTeam, *words: str) -> int:
    from nbprovision.__main__ import main

    return main(["bundle", str(team.playbook), "-o", "team.tar", *words])


def test_both_platforms(team: LockedTeam, capsys: pytest.CaptureFixture[str]) -> None:
    team.standard()
    assert bundle(team, *BOTH, "--format", "json") == 0
    told = json.loads(capsys.readouterr().out)
    assert told["platforms"] == ["linux-64", "linux-aarch64"]
    assert {"3.10", "3.11", "3.12", "3.13"} <= set(told["pythons"]["linux-aarch64"])
    found = archive.read(Path("team.tar"))
    archives = found.manifest["environments"]["fraud"]
    subdirs = {
        platform: {url.split("/")[-2] for url in urls if "/conda/" in url} for platform, urls in archives.items()
    }
    assert subdirs == {"linux-64": {"linux-64", "noarch"}, "linux-aarch64": {"linux-aarch64", "noarch"}}
    rattlers = [name for name in found.named("tool/") if "py_rattler" in name]
    assert {name.endswith("x86_64.whl") for name in rattlers} == {True, False}
    team.playbook.write_text(team.playbook.read_text().replace("beta", "alpha"))
    assert bundle(team) == 4
    assert "is stale" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("requirement", "reason"),
    [
        ("./project", "mine: it is built from a folder at each install"),
        ("mine @ git+{project}", "mine: it is built from a git repository at each install"),
    ],
)
def test_what_is_built_at_each_install_is_refused_by_name(
    team: LockedTeam, capsys: pytest.CaptureFixture[str], requirement: str, reason: str
) -> None:
    project = make_project(team.folder / "project")
    who = {"GIT_AUTHOR_NAME": "a", "GIT_AUTHOR_EMAIL": "a@b", "GIT_COMMITTER_NAME": "a", "GIT_COMMITTER_EMAIL": "a@b"}
    for words in (["init", "--quiet"], ["add", "."], ["commit", "--quiet", "--message=one"]):
        subprocess.run(["git", *words], cwd=project, check=True, env={**os.environ, **who})
    team.standard(requirements=f'"{requirement.format(project=project.as_uri())}"')
    assert bundle(team) == 4
    told = capsys.readouterr().err
    assert reason in told
    assert "pip wheel" in told
    assert not Path("team.tar").exists()


def test_a_source_distribution_that_cannot_be_built_is_refused_by_name(
    team: LockedTeam, capsys: pytest.CaptureFixture[str]
) -> None:
    project = make_project(team.folder / "project")
    backend = project / "backend.py"
    backend.write_text(backend.read_text().replace("py3-none-any", "cp39-cp39-linux_x86_64"))
    (project / "PKG-INFO").write_text("Metadata-Version: 2.1\nName: mine\nVersion: 0.1\n")
    with tarfile.open(team.wheels / "mine-0.1.tar.gz", "w:gz") as packed:
        packed.add(project, "mine-0.1")
    team.serve()
    team.standard(requirements="mine")
    assert bundle(team) == 2
    told = capsys.readouterr().err
    assert "mine-0.1.tar.gz cannot" in told
    assert not Path("team.tar").exists()


def test_a_channel_that_is_not_built(team: LockedTeam, capsys: pytest.CaptureFixture[str]) -> None:
    team.write("""
        - ensure_conda_channel: {path: ./mine}
        - ensure_conda_env: {name: fraud, packages: [alpha], channels: [./channel]}
    """)
    assert bundle(team) == 2
    told = capsys.readouterr().err
    assert "the channel" in told
    assert "run the playbook here first" in told


def test_what_a_task_fetches_at_each_run_is_told(team: LockedTeam, capsys: pytest.CaptureFixture[str]) -> None:
    digest = "0" * 64
    team.write(f"""
        - ensure_conda_env: {{name: fraud, packages: [python], channels: ["{team.url}"]}}
        - ensure_download: {{url: "https://example.com/model.bin", path: ~/model.bin, sha256: "{digest}"}}
    """)
    assert bundle(team) == 0
    assert "team.yml:3:7: what ensure_download fetches is not in the bundle" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "why"),
    [
        (("bundle", "team.yml", "-o", "team.tgz"), "does not end with .tar"),
        (("run",), "either PLAYBOOK or --bundle FILE"),
        (("run", "team.yml", "--bundle", "team.tar"), "a bundle has its own playbook"),
    ],
)
def test_wrong_options(tmp_path: Path, env: dict[str, str], words: tuple[str, ...], why: str) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "nbprovision", *words],
        env=env,
        capture_output=True,
        text=True,
        check=False,
        cwd=tmp_path,
    )
    assert done.returncode == 5
    assert why in done.stderr


def test_the_tools_own_wheel_is_one(bundled: Bundled, tmp_path: Path) -> None:
    """The command of an environment with it tells its version."""
    found = archive.read(bundled.tar)
    (name,) = (name for name in found.named("tool/") if name.startswith("tool/nbprovision-"))
    wheel = tmp_path / name.removeprefix("tool/")
    wheel.write_bytes(archive.content(found, name))
    import uv

    environment = tmp_path / "environment"
    for words in (["venv", environment], ["pip", "install", "--offline", "--no-deps", "--python", environment, wheel]):
        subprocess.run([uv.find_uv_bin(), *words], check=True, capture_output=True)
    done = subprocess.run(
        [environment / "bin/nbprovision", "run", "/nothing.yml"], capture_output=True, text=True, check=False
    )
    assert "No module named" in done.stderr, "its dependencies are missing, and it has begun"
    with io.BytesIO(wheel.read_bytes()) as stream:
        assert stream.read(2) == b"PK"
