"""Environments made of exact packages: from pixi.lock and from conda's files with @EXPLICIT, without a solver."""

from __future__ import annotations

import hashlib
import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from nbprovision.conda import explicit_file, rattler
from nbprovision.conda import pixi_lock as pixi_lock_reader
from nbprovision.machine.archives import Archives
from nbprovision.machine.environments import installed
from nbprovision.machine.machine import Machine
from nbprovision.model.errors import InvalidPlaybook, NotBegun, ParameterError, TaskFailed
from nbprovision.model.task import Claim
from nbprovision.system import unfinished
from tests.support.conda_environments import conda_reads, env_of, moves, prefix_of, versions
from tests.support.conda_packages import TinyChannel
from tests.support.driver import converge, planned
from tests.support.exact_packages import ALPHA, Write, evil, locked
from tests.support.file_server import FileServer
from tests.support.lock_files import explicit, pixi_lock

pytestmark = [pytest.mark.engine, pytest.mark.sampled(2)]


def record(prefix: Path, name: str) -> Any:
    """The content of a package's record."""
    (path,) = (record.path for record in installed(prefix) if record.name == name)
    return json.loads(path.read_text())


# ---------------------------------------------------------------------------------------------- made, and then in place


def test_an_environment_is_made_without_a_channel(
    machine: Machine, tiny: TinyChannel, write: Write, home: Path
) -> None:
    """No index is read: neither that of the channel nor a configured one."""
    path = write(tiny, "beta=1.0", "alpha=1.0")
    (tiny.path / "noarch/repodata.json").unlink()
    changes = converge(locked(path), machine)
    assert [(change.action, change.target, change.after) for change in changes] == [
        ("create", "x", "present"),
        ("install", "alpha", "1.0"),
        ("install", "beta", "1.0"),
        ("register", "x", "environments.txt"),
    ]
    prefix = prefix_of(machine)
    assert (prefix / "share/beta.txt").read_text() == "beta 1.0\n"
    assert not (machine.cache / "repodata").exists()
    ((added, specs),) = conda_reads((prefix / "conda-meta/history").read_text())
    assert [line.rpartition("::")[2] for line in added] == ["alpha-1.0-0", "beta-1.0-0"]
    assert sorted(specs) == ["alpha", "beta"], "a later `conda remove` keeps them"
    assert record(prefix, "alpha")["requested_specs"] == ["alpha"]


READ = """
import sys
from pathlib import Path
started = []
sys.addaudithook(lambda event, args: started.append(event) if event in
    ("subprocess.Popen", "os.posix_spawn", "os.fork", "os.exec", "os.system", "socket.connect") else None)
from nbprovision.machine.machine import Machine
from nbprovision.conda.ensure_conda_env import EnsureCondaEnv
machine = Machine(root=Path(sys.argv[1]))
task = EnsureCondaEnv(name="x", file=sys.argv[2])
assert task.plan(task.read(machine)).changes == ()
print(started, {"rattler", "asyncio", "packaging", "sh", "importlib.metadata"} & set(sys.modules))
"""


def test_reading_what_is_in_place_starts_no_process_and_loads_no_engine(
    machine: Machine, tiny: TinyChannel, write: Write, env: dict[str, str]
) -> None:
    path = write(tiny, "beta=1.0", "alpha=1.1")
    converge(locked(path), machine)
    done = subprocess.run(
        [sys.executable, "-c", READ, str(machine.root), str(path)],
        env={**env, "PYTHONPATH": str(Path(__file__).parents[2])},
        capture_output=True,
        text=True,
    )
    assert done.stdout == "[] set()\n", done.stderr


@pytest.mark.parametrize("served", [False, True], ids=["a folder", "a server"])
def test_the_records_are_those_of_a_solve(
    machine: Machine, tiny: TinyChannel, write: Write, server: FileServer, served: bool
) -> None:
    """conda and other tools read them; what a file with @EXPLICIT lacks comes from the packages themselves."""
    tiny.add("python", "3.11.7", build="h1_5", build_number=5, files={"bin/python": "x"})
    tiny.add(
        "pure", "1.0", build="py_2", build_number=2, noarch="python", depends=["python >=3", "alpha <2"],
        constrains=["gamma <9"], files={"site-packages/pure.py": "x = 1\n"}, entry_points=["pure = pure:x"],
    )  # fmt: skip
    for path in tiny.path.glob("noarch/*.tar.bz2"):
        server.files[f"/chan/noarch/{path.name}"] = path.read_bytes()
    url = f"{server.url}/chan" if served else ""
    converge(env_of(tiny, "pure", "python", "alpha", name="solved"), machine)
    converge(locked(write(tiny, "pure=1.0", "python=3.11.7", "alpha=1.1", url=url)), machine)
    assert (prefix_of(machine) / "lib/python3.11/site-packages/pure.py").is_file()
    assert (prefix_of(machine) / "bin/pure").is_file()
    for name in ("pure", "python", "alpha"):
        solved, exact = record(machine.home / "envs/solved", name), record(prefix_of(machine), name)
        if url:
            solved |= {key: solved[key].replace(tiny.url, url).rstrip("/") for key in ("url", "channel")}
            exact["channel"] = exact["channel"].rstrip("/")
            for entry in (solved, exact):
                entry["link"] = entry["extracted_package_dir"] = None
        keys = {"depends", "constrains", "noarch", "build", "build_number", "subdir", "fn", "url", "files", "link"}
        assert {key: exact.get(key) for key in keys} == {key: solved.get(key) for key in keys}
        assert exact["channel"].rstrip("/") == solved["channel"].rstrip("/")
        kinds = [kind for kind in ("sha256", "md5") if kind in exact]
        assert kinds
        assert [exact[kind] for kind in kinds] == [solved[kind] for kind in kinds]


def test_a_copy_of_an_environment_gets_the_locked_packages(machine: Machine, tiny: TinyChannel, write: Write) -> None:
    converge(env_of(tiny, "alpha", "gamma", name="source"), machine)
    changes = moves(converge(locked(write(tiny, "alpha=1.0"), clone="source", exact=True), machine))
    assert changes == [("downgrade", "alpha", "2.0", "1.0"), ("remove", "gamma", "3.1", None)]
    assert versions(machine.home / "envs/source") == {"alpha": "2.0", "gamma": "3.1"}


# ------------------------------------------------------------------------------------------------------------- drift


def test_what_is_not_as_locked_is_changed(machine: Machine, tiny: TinyChannel, write: Write) -> None:
    """The other packages stay, and the task says so."""
    converge(env_of(tiny, "alpha=2", "gamma"), machine)
    task = locked(write(tiny, "beta=1.0", "alpha=1.0"))
    plan = task.plan(task.read(machine))
    assert moves(plan.changes) == [("downgrade", "alpha", "2.0", "1.0"), ("install", "beta", None, "1.0")]
    note = "1 package is not in the lock and left as installed: gamma; `exact: true` removes them"
    assert note in plan.warnings
    converge(task, machine)
    assert versions(prefix_of(machine)) == {"alpha": "1.0", "beta": "1.0", "gamma": "3.1"}
    assert note in task.plan(task.read(machine)).warnings
    assert moves(converge(env_of(tiny, "alpha=1.1"), machine)) == [("upgrade", "alpha", "1.0", "1.1")]
    assert moves(planned(task, machine)) == [("downgrade", "alpha", "1.1", "1.0")]


def test_exact_removes_what_is_not_locked(machine: Machine, tiny: TinyChannel, write: Write) -> None:
    """A package that another task of the playbook requests stays, with what it needs."""
    tiny.add("delta", "1.0", depends=["gamma"])
    tiny.add("omega", "1.0")
    converge(env_of(tiny, "alpha=1.0", "delta", "omega"), machine)
    machine.wanted.add((prefix_of(machine), "delta"))
    task = locked(write(tiny, "alpha=1.0"), exact=True)
    assert moves(converge(task, machine)) == [("remove", "omega", "1.0", None)]
    machine.wanted.clear()
    assert {change[1] for change in moves(converge(task, machine))} == {"delta", "gamma"}
    assert versions(prefix_of(machine)) == {"alpha": "1.0"}


def test_exact_removes_what_only_the_replaced_version_needed(machine: Machine, tiny: TinyChannel, write: Write) -> None:
    tiny.add("delta", "1.0", depends=["gamma"])
    tiny.add("delta", "2.0")
    converge(env_of(tiny, "delta=1.0"), machine)
    changes = moves(converge(locked(write(tiny, "delta=2.0"), exact=True), machine))
    assert changes == [("upgrade", "delta", "1.0", "2.0"), ("remove", "gamma", "3.1", None)]


def test_another_archive_of_the_same_build_is_drift(
    machine: Machine, tiny: TinyChannel, write: Write, tmp_path: Path
) -> None:
    """Somebody has built the package again under the same name."""
    other = TinyChannel(tmp_path / "rebuilt")
    other.add("alpha", "1.0", files={"share/alpha.txt": "built again\n"})
    converge(locked(write(tiny, "alpha=1.0")), machine)
    before = record(prefix_of(machine), "alpha")
    ((action, target, old, new),) = moves(converge(locked(write(other, "alpha=1.0")), machine))
    assert (action, target) == ("change", "alpha")
    assert old is not None
    assert old.startswith("1.0 0 (")
    assert old != new
    assert (prefix_of(machine) / "share/alpha.txt").read_text() == "built again\n"
    after = record(prefix_of(machine), "alpha")
    assert after["url"] != before["url"]


# ------------------------------------------------------------------------------------------------------ verification


@pytest.mark.parametrize("served", [False, True], ids=["a folder", "a server"])
@pytest.mark.parametrize("exists", [False, True], ids=["new", "existing"])
def test_a_replaced_archive_is_refused_and_nothing_changes(
    machine: Machine, tiny: TinyChannel, write: Write, server: FileServer, tmp_path: Path, served: bool, exists: bool
) -> None:
    """None of the other packages is linked either."""
    path = write(tiny, "alpha=1.0", "beta=1.0", "gamma=3.1", url=f"{server.url}/chan" if served else "")
    bad = evil(tmp_path)
    good = (tiny.path / "noarch" / ALPHA).read_bytes()
    server.files[f"/chan/noarch/{ALPHA}"] = bad
    (tiny.path / "noarch" / ALPHA).write_bytes(bad)
    if exists:
        other = TinyChannel(tmp_path / "other")
        other.add("alpha", "0.9")
        converge(env_of(other, "alpha"), machine)
    before = versions(prefix_of(machine)) if exists else {}
    machine.applies = True
    with pytest.raises(TaskFailed) as caught:
        converge(locked(path), machine)
    kind = "md5" if "sha256" not in path.read_text() else "sha256"
    digests = [getattr(hashlib, kind)(content).hexdigest() for content in (bad, good)]
    assert caught.value.message == f"the package {ALPHA} is not installed"
    assert f"noarch/{ALPHA} is not the file in the lock: its {kind} is {digests[0]}, not {digests[1]}" in (
        caught.value.cause
    )
    assert "lock again" in caught.value.cure
    assert versions(prefix_of(machine)) == before
    assert not (prefix_of(machine) / "share/gamma.txt").exists()
    (tiny.path / "noarch" / ALPHA).write_bytes(good)
    server.files[f"/chan/noarch/{ALPHA}"] = good
    unfinished.clear(prefix_of(machine))
    converge(locked(path), machine)
    assert (prefix_of(machine) / "share/alpha.txt").read_text() == "alpha 1.0\n"


@pytest.mark.parametrize("harm", ["replaced", "cut", "a byte more", "empty"])
def test_an_archive_that_is_harmed_on_a_server(
    machine: Machine, tiny: TinyChannel, server: FileServer, tmp_path: Path, harm: str
) -> None:
    path = pixi_lock(tmp_path / "pixi.lock", tiny, {"x": ["alpha=1.0"]}, url=f"{server.url}/chan")
    good = server.files[f"/chan/noarch/{ALPHA}"]
    harmed = {"replaced": b"other", "cut": good[:-9], "a byte more": good + b"x", "empty": b""}[harm]
    server.files[f"/chan/noarch/{ALPHA}"] = harmed
    with pytest.raises(NotBegun, match="is not installed") as caught:
        converge(locked(path), machine)
    assert f"its sha256 is {hashlib.sha256(harmed).hexdigest()}, not {hashlib.sha256(good).hexdigest()}" in (
        caught.value.cause
    )
    assert not list((machine.cache / "pkgs").glob("alpha*"))


def test_an_archive_with_another_package_in_it(machine: Machine, tiny: TinyChannel, tmp_path: Path) -> None:
    """Its hash is that of the file, but its name is not that of the package."""
    path = explicit(tmp_path / "explicit.txt", tiny, ["alpha=1.0"])
    shutil.copy(tiny.path / "noarch" / ALPHA, tiny.path / "noarch/delta-1.0-0.tar.bz2")
    path.write_text(path.read_text().replace("alpha-1.0", "delta-1.0"))
    with pytest.raises(TaskFailed, match=r"delta-1\.0-0\.tar\.bz2 is not installed") as caught:
        converge(locked(path), machine)
    assert "the archive contains alpha-1.0-0" in caught.value.cause
    assert not list(prefix_of(machine).glob("share/*"))


# ------------------------------------------------------------------------------------------------- servers, credentials


@pytest.mark.parametrize("credentials", ["/t/tk-0123-canary", "joe:pw-canary@"])
@pytest.mark.parametrize("place", ["channels", "channel_alias", "custom_channels", "the file"])
def test_credentials_come_from_the_configuration(
    machine: Machine, tiny: TinyChannel, server: FileServer, tmp_path: Path, home: Path, credentials: str, place: str
) -> None:
    """The lock has none, and no file gets any."""
    machine.env["NO_PROXY"] = machine.env["no_proxy"] = "127.0.0.1"
    host = server.url.removeprefix("http://")
    by_token = credentials.startswith("/t/")
    if by_token:
        server.files = {f"/t/tk-0123-canary{path}": content for path, content in server.files.items()}
    else:
        server.user = "joe:pw-canary"
    base = f"http://{host}{credentials}" if by_token else f"http://{credentials}{host}"
    path = explicit(tmp_path / "explicit.txt", tiny, ["alpha=1.0"], url=f"{server.url}/chan")
    more: dict[str, Any] = {}
    if place == "channels":
        more = {"channels": f"{base}/chan"}
    elif place == "the file":
        path.write_text(path.read_text().replace(f"{server.url}/chan", f"{base}/chan"))
    else:
        value = base if place == "channel_alias" else f"{{chan: '{base}'}}"
        (home / ".condarc").write_text(f"{place}: {value}\n")
    converge(locked(path, **more), machine)
    assert record(prefix_of(machine), "alpha")["url"] == f"{server.url}/chan/noarch/{ALPHA}"
    for file in tmp_path.rglob("*"):
        if file.is_file() and file.name not in ("explicit.txt", ".condarc"):
            assert b"canary" not in file.read_bytes(), file


def test_credentials_of_another_channel_are_not_sent(
    machine: Machine, tiny: TinyChannel, server: FileServer, tmp_path: Path
) -> None:
    machine.env["NO_PROXY"] = machine.env["no_proxy"] = "127.0.0.1"
    path = explicit(tmp_path / "explicit.txt", tiny, ["alpha=1.0"], url=f"{server.url}/chan")
    host = server.url.removeprefix("http://")
    machine.env["CONDA_CHANNEL_ALIAS"] = "http://joe:pw-canary@host:no-port/"  # no URL, and no reason to fail
    converge(locked(path, channels=f"http://joe:pw-canary@{host}/other"), machine)
    assert [request.authorization for request in server.requests] == [None]


def test_a_missing_file_on_a_server(machine: Machine, tiny: TinyChannel, write: Write, server: FileServer) -> None:
    path = write(tiny, "alpha=1.0", "gamma=3.1", url=f"{server.url}/chan")
    del server.files[f"/chan/noarch/{ALPHA}"]
    with pytest.raises(TaskFailed) as caught:
        converge(locked(path), machine)
    assert "404" in caught.value.cause
    assert ALPHA in caught.value.cause
    assert versions(prefix_of(machine)) == {}


def test_offline_nothing_is_fetched(
    machine: Machine, tiny: TinyChannel, server: FileServer, tmp_path: Path, home: Path
) -> None:
    """What is in the cache is installed all the same."""
    url = f"{server.url}/chan"
    converge(locked(explicit(tmp_path / "first.txt", tiny, ["alpha=1.0"], url=url)), machine)
    (home / ".condarc").write_text("offline: true\n")
    machine.forget()
    converge(locked(explicit(tmp_path / "again.txt", tiny, ["alpha=1.0"], url=url), name="y"), machine)
    with pytest.raises(NotBegun) as caught:
        converge(locked(explicit(tmp_path / "more.txt", tiny, ["gamma=3.1"], url=url), name="z"), machine)
    assert "`offline`" in caught.value.cause
    assert len(server.requests) == 1


def test_a_server_that_does_not_answer(machine: Machine, tiny: TinyChannel, write: Write) -> None:
    """The reason is given, which the library's own download does not tell."""
    machine.env["NBPROVISION_NETWORK_PATIENCE"] = "0"
    with pytest.raises(NotBegun) as caught:
        converge(locked(write(tiny, "alpha=1.0", url="http://127.0.0.1:9/chan")), machine)
    assert caught.value.cause.startswith("127.0.0.1:9 refuses the connection")


def test_a_download_that_breaks_off_is_repeated(
    machine: Machine, tiny: TinyChannel, write: Write, server: FileServer
) -> None:
    path = write(tiny, "alpha=1.0", url=f"{server.url}/chan")
    server.cut, server.times = 100, 1
    converge(locked(path), machine)
    assert len(server.requests) > 1
    assert versions(prefix_of(machine)) == {"alpha": "1.0"}


def test_archives_that_are_taken_from_a_folder(
    machine: Machine, tiny: TinyChannel, write: Write, tmp_path: Path
) -> None:
    """The records name the channel all the same. An archive there is verified like any other."""
    path = write(tiny, "alpha=1.0", "gamma=3.1", url="https://channel.invalid/chan")
    kept = {}
    for name in (ALPHA, "gamma-3.1-0.tar.bz2"):
        shutil.copy(tiny.path / "noarch" / name, tmp_path / f"kept-{name}")
        kept[f"https://channel.invalid/chan/noarch/{name}"] = tmp_path / f"kept-{name}"
    machine.archives = Archives(kept)
    converge(locked(path), machine)
    written = record(prefix_of(machine), "alpha")
    assert written["url"] == f"https://channel.invalid/chan/noarch/{ALPHA}"
    assert written["channel"].rstrip("/") == "https://channel.invalid/chan"
    (tmp_path / f"kept-{ALPHA}").write_bytes(evil(tmp_path))
    (prefix_of(machine) / "share/alpha.txt").write_text("harmed")  # and with it the cache
    again = Machine(machine.env, home=machine.home, root=machine.root)
    again.archives = machine.archives
    with pytest.raises(TaskFailed, match="is not installed"):
        converge(locked(path, deep=True), again)


# ----------------------------------------------------------------------------------------------------------- damage


@pytest.mark.parametrize("harm", ["", '{"name": "alpha", "ver'])
def test_a_torn_record(machine: Machine, tiny: TinyChannel, write: Write, harm: str) -> None:
    path = write(tiny, "alpha=1.0", "gamma=3.1")
    converge(locked(path), machine)
    (prefix_of(machine) / "conda-meta/alpha-1.0-0.json").write_text(harm)
    assert ("repair", "alpha") in {(change.action, change.target) for change in converge(locked(path), machine)}
    assert record(prefix_of(machine), "alpha")["version"] == "1.0"


def test_a_torn_record_of_a_package_that_is_not_locked(machine: Machine, tiny: TinyChannel, write: Write) -> None:
    converge(env_of(tiny, "alpha=1.0", "gamma"), machine)
    (prefix_of(machine) / "conda-meta/gamma-3.1-0.json").write_text("")
    task = locked(write(tiny, "alpha=1.0"))
    assert any("the lock cannot restore gamma" in text for text in task.plan(task.read(machine)).warnings)
    assert converge(task, machine) == ()
    assert moves(converge(locked(write(tiny, "alpha=1.1")), machine)) == [("upgrade", "alpha", "1.0", "1.1")]
    assert versions(prefix_of(machine)) == {"alpha": "1.1"}


def test_deep_repairs_what_was_edited(machine: Machine, tiny: TinyChannel, write: Write) -> None:
    """The cache and the other environments share the damage."""
    path = write(tiny, "alpha=1.0", "gamma=3.1")
    converge(locked(path), machine)
    converge(locked(path, name="y"), machine)
    (prefix_of(machine) / "share/alpha.txt").write_text("alpha 9.9\n")
    assert planned(locked(path), machine) == ()
    changes = converge(locked(path, deep=True), machine)
    assert ("repair", "alpha") in {(change.action, change.target) for change in changes}
    for name in ("x", "y"):
        assert (machine.home / "envs" / name / "share/alpha.txt").read_text() == "alpha 1.0\n"


def test_an_unfinished_environment_is_completed(machine: Machine, tiny: TinyChannel, write: Write) -> None:
    path = write(tiny, "alpha=1.0", "gamma=3.1")
    converge(locked(path), machine)
    unfinished.mark(prefix_of(machine), "ensure_conda_env")
    (prefix_of(machine) / "share/alpha.txt").unlink()
    (prefix_of(machine) / "conda-meta/gamma-3.1-0.json").unlink()
    converge(locked(path), machine)
    assert (prefix_of(machine) / "share/alpha.txt").exists()
    assert versions(prefix_of(machine)) == {"alpha": "1.0", "gamma": "3.1"}


def test_an_engine_that_ends_between_the_plan_and_the_installation(
    machine: Machine, tiny: TinyChannel, write: Write
) -> None:
    task = locked(write(tiny, "alpha=1.0", "beta=1.0"))
    state = task.read(machine)
    solution = state.packages.solution
    assert isinstance(solution, rattler.ExactSolution)
    solution._child._process.kill()
    solution._child._process.wait()
    task.apply(task.plan(state), machine)
    assert versions(prefix_of(machine)) == {"alpha": "1.0", "beta": "1.0"}
    assert record(prefix_of(machine), "beta")["depends"] == ["alpha <2"]


# --------------------------------------------------------------------------------------------------- virtual packages


@pytest.fixture
def on_gpu(tiny: TinyChannel) -> TinyChannel:
    tiny.add("torch", "2.0", depends=["__cuda >=12"])
    tiny.add("modern", "1.0", depends=["__glibc >=99"])
    return tiny


def test_a_virtual_package_that_this_machine_lacks(machine: Machine, on_gpu: TinyChannel, tmp_path: Path) -> None:
    """With @EXPLICIT only the packages themselves know what they need: nothing is linked then."""
    machine.env["CONDA_OVERRIDE_CUDA"] = ""
    virtual = ["__cuda=12.4", "__glibc=99"]
    wanted = ["torch=2.0", "alpha=1.0"]
    lock = pixi_lock(tmp_path / "pixi.lock", on_gpu, {"default": wanted, "y": ["modern"]}, virtual=virtual)
    listed = explicit(tmp_path / "explicit.txt", on_gpu, wanted)
    for act, path in ((planned, lock), (converge, listed)):
        with pytest.raises(TaskFailed, match=r"the locked torch 2\.0 cannot run on this machine") as caught:
            act(locked(path), machine)
        assert caught.value.cause == "it needs __cuda >=12, and this machine has no __cuda"
        assert "cuda" in caught.value.cure
    assert not list(prefix_of(machine).glob("share/*"))
    with pytest.raises(TaskFailed, match="modern") as caught:
        planned(locked(lock, name="y"), machine)
    assert "this machine has __glibc=" in caught.value.cause
    converge(locked(lock, cuda="12.4"), machine)
    assert versions(prefix_of(machine)) == {"torch": "2.0", "alpha": "1.0"}


def test_what_no_package_needs_is_not_asked_of_the_machine(
    machine: Machine, on_gpu: TinyChannel, tmp_path: Path
) -> None:
    """The platform of a lock is that of all its environments."""
    path = pixi_lock(tmp_path / "pixi.lock", on_gpu, {"x": ["alpha=1.0"]}, virtual=["__cuda=12.4", "__glibc=99"])
    converge(locked(path), machine)
    assert versions(prefix_of(machine)) == {"alpha": "1.0"}


# --------------------------------------------------------------------------------------------------------- pixi.lock


def test_the_environment_of_the_same_name_counts_else_default(
    machine: Machine, tiny: TinyChannel, tmp_path: Path
) -> None:
    path = pixi_lock(tmp_path / "pixi.lock", tiny, {"default": ["gamma"], "x": ["alpha=1.1"]})
    converge(locked(path), machine)
    assert versions(prefix_of(machine)) == {"alpha": "1.1"}
    converge(locked(path, name="y"), machine)
    assert versions(machine.home / "envs/y") == {"gamma": "3.1"}
    converge(locked(path, name=None, prefix=str(tmp_path / "x")), machine)
    assert versions(tmp_path / "x") == {"alpha": "1.1"}


@pytest.mark.parametrize("place", ["playbook", "nbprovision", "home"])
def test_the_lock_of_a_playbook_is_no_file_of_a_task(
    machine: Machine, tiny: TinyChannel, tmp_path: Path, place: str
) -> None:
    """It may name folders of the machine, which only a run with the lock knows."""
    path = pixi_lock(tmp_path / "pixi.lock", tiny, {"default": ["alpha"]}, url=f"https://{place}.invalid/channel")
    with pytest.raises(ParameterError, match="belongs to the lock of a playbook") as caught:
        planned(locked(path), machine)
    assert "--locked" in caught.value.cure


def test_without_a_default_the_names_are_listed(machine: Machine, tiny: TinyChannel, tmp_path: Path) -> None:
    path = pixi_lock(tmp_path / "pixi.lock", tiny, {"risk": ["gamma"], "fraud": ["alpha"]})
    with pytest.raises(InvalidPlaybook, match="has no environment 'x', and no `default`") as caught:
        planned(locked(path), machine)
    assert "fraud, risk" in caught.value.cause


def test_version_6(machine: Machine, tiny: TinyChannel, tmp_path: Path) -> None:
    """The version of pixi before 0.68: platforms are known by the names of their subdirs only."""
    path = pixi_lock(tmp_path / "pixi.lock", tiny, {"default": ["beta"]})
    text = path.read_text().replace("version: 7", "version: 6").replace("platforms:\n- name: linux-64\n", "")
    text = text.replace(f"conda: {tiny.path}", f"conda: {tiny.url}").replace("  subdir: noarch\n", "")
    path.write_text(text.replace(f"  channel: {tiny.url}\n", ""))
    converge(locked(path), machine)
    assert versions(prefix_of(machine)) == {"alpha": "1.1", "beta": "1.0"}
    assert record(prefix_of(machine), "beta")["depends"] == ["alpha <2"]


def test_a_platform_by_another_name(machine: Machine, tiny: TinyChannel, tmp_path: Path) -> None:
    path = pixi_lock(tmp_path / "pixi.lock", tiny, {"default": ["gamma"]})
    text = path.read_text().replace("- name: linux-64\n", "- name: gpu\n  subdir: linux-64\n")
    path.write_text(text.replace("      linux-64:", "      gpu:"))
    converge(locked(path), machine)
    assert versions(prefix_of(machine)) == {"gamma": "3.1"}


def test_packages_from_pypi_are_left_to_a_pip_task(machine: Machine, tiny: TinyChannel, tmp_path: Path) -> None:
    path = pixi_lock(tmp_path / "pixi.lock", tiny, {"default": ["gamma"]})
    text = path.read_text().replace("packages:\n- conda", "packages:\n- pypi: https://h/x-1-py3-none-any.whl\n- conda")
    entry = "      - pypi: https://h/x-1-py3-none-any.whl\n"
    path.write_text(text.replace("      linux-64:\n", f"      linux-64:\n{entry}"))
    task = locked(path)
    converge(task, machine)
    (note,) = (text for text in task.plan(task.read(machine)).warnings if "PyPI" in text)
    assert "give them to ensure_pip_pkg" in note


@pytest.mark.parametrize("mark", ["", "\ufeff"])
def test_an_explicit_file_of_conda_lock(machine: Machine, tiny: TinyChannel, tmp_path: Path, mark: str) -> None:
    """Its packages from PyPI are comments; editors of Windows put a byte order mark before the first line."""
    path = explicit(tmp_path / "explicit.txt", tiny, ["gamma=3.1"], kind="md5")
    urls = "".join(line for line in path.read_text().splitlines(keepends=True) if "://" in line)
    comment = f"# pip x[fast] @ https://h/x-1-py3-none-any.whl#sha256={'0' * 64}\n"
    path.write_text(f"{mark}@EXPLICIT\n{urls}{comment}", encoding="utf-8")
    task = locked(path)
    converge(task, machine)
    assert versions(prefix_of(machine)) == {"gamma": "3.1"}
    (note,) = (text for text in task.plan(task.read(machine)).warnings if "PyPI" in text)
    assert "(1)" in note


def entry_of(**fields: str) -> str:
    """A lock file of version 6 with one package, on lines 8 and 10."""
    package = {"conda": "https://h/c/noarch/six-1.16-py_0.conda", "sha256": "ab" * 32, **fields}
    package = {key: value for key, value in package.items() if value}
    lines = [f"{'-' if not number else ' '} {key}: {value}" for number, (key, value) in enumerate(package.items())]
    return "\n".join(
        [
            "version: 6", "environments:", "  default:", "    channels: []", "    packages:", "      linux-64:",
            "      # the packages", f"      - conda: {package['conda']}", "packages:", *lines, "",
        ]
    )  # fmt: skip


# What is wrong with a file, on which line, and what is said.
REFUSED: dict[str, tuple[str, int, str]] = {
    "version 5": (entry_of().replace("version: 6", "version: 5"), 1, "has version 5 of the format"),
    "version 8": (entry_of().replace("version: 6", "version: 8"), 1, "reads versions 6 and 7"),
    "not YAML": (entry_of() + "}\n", 12, "is not YAML"),
    "an alias": (entry_of() + "x: &a 1\ny: *a\n", 13, "alias"),
    "another platform": (entry_of().replace("linux-64:", "osx-arm64:"), 4, "it is for osx-arm64"),
    "no packages": (entry_of().replace("      - conda", "      # conda"), 4, "has no conda packages"),
    "packages from PyPI only": (entry_of().replace("      - conda", "      - pypi"), 4, "all its packages are from PyPI"),
    "no hash": (entry_of(sha256=""), 10, "has no valid hash of six-1.16-py_0.conda"),
    "a cut hash": (entry_of(sha256="abc"), 10, "has no valid hash"),
    "no entry": (entry_of().replace("- conda: https://h/c/noarch/six-1.16", "- conda: https://h/c/noarch/six-9", 1), 8, "does not describe"),
    "a package of sources": (entry_of(conda="./recipe"), 10, "build a package from sources first"),
    "a package of sources in version 7": (entry_of().replace("version: 6", "version: 7").replace("- conda: https", "- conda_source: six[12] @ https"), 10, "build a package from sources first"),
    "no package's name": (entry_of(conda="https://h/c/noarch/six.conda"), 10, "named NAME-VERSION-BUILD"),
    "a scheme": (entry_of(conda="s3://h/c/noarch/six-1.16-py_0.conda"), 10, "'s3:' is not one of"),
    "a path in the name": (entry_of(conda="https://h/c/noarch/six-..%2F..%2Fx-py_0.conda"), 10, "not an archive"),
    "a build that is a path": (entry_of(build="../../x"), 10, "has a path as a name, version or build"),
    "a build without end": (entry_of(build="x" * 5000), 10, "has a path as a name, version or build"),
    "a package for another platform": (entry_of(conda="https://h/c/win-64/six-1-py_0.conda"), 10, "six-1-py_0.conda is for win-64"),
    "a size that is no number": (entry_of(size="much"), 10, "has an invalid entry"),
    "a size without end": (entry_of(size="9" * 5000), 10, "has an invalid entry"),
    "a time without end": (entry_of(timestamp="9" * 30), 10, "has an invalid entry"),
    "an unknown kind": (entry_of().replace("      - conda", "      - cargo"), 8, "has an entry 'cargo'"),
    "twice": (entry_of().replace("packages:\n-", "      - conda: https://h/c/noarch/six-1.16-py_0.conda\npackages:\n-"), 9, "has two packages 'six'"),
    "no environments": ("version: 6\nenvironments:\npackages: []\n", 1, "has no mapping in `environments`"),
    "@EXPLICIT for another platform": ("# platform: win-64\n@EXPLICIT\nhttps://h/c/noarch/a-1-0.conda#" + "a" * 32, 1, "is for win-64"),
    "a package of another platform": ("@EXPLICIT\nhttps://h/c/win-64/a-1-0.conda#" + "a" * 32, 2, "which is for win-64"),
    "@EXPLICIT without a hash": ("@EXPLICIT\n\nhttps://h/c/noarch/a-1-0.conda\n", 3, "has no hash of a 1"),
    "@EXPLICIT with a cut hash": ("@EXPLICIT\nhttps://h/c/noarch/a-1-0.conda#abc\n", 2, "has an invalid hash of a 1"),
    "@EXPLICIT with a spec": ("@EXPLICIT\nsix=1.16\n", 2, "is not the URL of a package: six=1.16"),
    "@EXPLICIT twice": ("@EXPLICIT\n" + f"https://h/c/noarch/a-1-0.conda#{'a' * 32}\n" * 2, 3, "has a second package 'a'"),
    "@EXPLICIT without packages": ("@EXPLICIT\n", 1, "has no packages"),
    "@EXPLICIT with a wrong port": ("@EXPLICIT\nhttps://h:x/c/noarch/a-1-0.conda#" + "a" * 32, 2, "is not the URL"),
    "conda-lock": ("version: 1\nmetadata: {}\npackage: []\n", 1, "conda-lock render --kind explicit"),
}  # fmt: skip


@pytest.mark.parametrize("what", REFUSED)
def test_what_cannot_be_installed_is_refused_where_it_stands(machine: Machine, tmp_path: Path, what: str) -> None:
    text, line, said = REFUSED[what]
    path = tmp_path / "file"
    path.write_text(text)
    with pytest.raises(InvalidPlaybook) as caught:
        planned(locked(path), machine)
    assert said in str(caught.value)
    assert caught.value.cure
    assert caught.value.position is not None
    assert caught.value.position[:2] == (str(path), line)


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"version": "'1 2'"}, "invalid package"),
        ({"build": "'a b'"}, "invalid package"),
        ({"name": "'a b'"}, "invalid package"),
        ({"depends": "['', '__glibc >=>']"}, ""),
        ({"build": "x_" + "9" * 50}, ""),
        ({"build": "x_" + "9" * 100}, "invalid package"),
    ],
)
def test_fields_that_the_library_cannot_read(
    machine: Machine, tmp_path: Path, fields: dict[str, str], said: str
) -> None:
    """Refused, or without effect, and no traceback."""
    path = tmp_path / "pixi.lock"
    path.write_text(entry_of(**fields))
    task = locked(path)
    if not said:
        assert [change[0] for change in moves(planned(task, machine))] == ["install"]
        return
    with pytest.raises(TaskFailed, match=said) as caught:
        planned(task, machine)
    assert caught.value.cause


def test_files_that_only_look_like_locks_are_judged_at_once(tmp_path: Path) -> None:
    """No pattern takes a time that grows faster than the file."""
    for text in (b"\n" * 1_000_000, b" " * 1_000_000, b"# \n" * 300_000, b"version: " + b"1" * 1_000_000):
        assert not pixi_lock_reader.is_lock(text)
        assert not explicit_file.is_explicit(text)


# ------------------------------------------------------------------------------------------------- other parameters


@pytest.mark.parametrize(
    ("more", "key"),
    [({"packages": ["six"]}, "packages"), ({"update": "latest"}, "update"), ({"engine": "conda"}, "engine")],
)
def test_parameters_that_contradict_exact_packages(
    machine: Machine, tiny: TinyChannel, write: Write, more: dict[str, Any], key: str
) -> None:
    with pytest.raises(ParameterError, match="exact packages") as caught:
        planned(locked(write(tiny, "alpha=1.0"), **more), machine)
    assert caught.value.key == key
    assert caught.value.cure


def test_a_pip_task_that_wants_another_version(machine: Machine, tiny: TinyChannel, write: Write) -> None:
    task = locked(write(tiny, "alpha=1.0"))
    prefix = prefix_of(machine)
    assert task.objection(Claim(prefix, "alpha>=2"), machine) == "ensure_conda_env asks for 'alpha==1.0=0'"
    assert task.objection(Claim(prefix, "alpha"), machine) is None


def test_a_channel_of_the_lock_that_an_administrator_does_not_allow(
    machine: Machine, tiny: TinyChannel, write: Write
) -> None:
    (machine.root / "etc/conda").mkdir(parents=True)
    (machine.root / "etc/conda/.condarc").write_text(f"denylist_channels: [{tiny.url}]\n")
    with pytest.raises(TaskFailed, match="is not allowed on this machine"):
        planned(locked(write(tiny, "alpha=1.0")), machine)


def test_a_local_channel_of_the_lock_is_required(machine: Machine, tiny: TinyChannel, write: Write) -> None:
    """So that ensure_conda_channel builds it before."""
    names = {resource.identity for resource in locked(write(tiny, "alpha=1.0")).requires(machine)}
    assert str(tiny.path) in names
