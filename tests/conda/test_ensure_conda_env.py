"""Environments made, changed and removed by the real engine, on a channel of made-up packages."""

from __future__ import annotations

import functools
import http.server
import json
import os
import re
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any, ClassVar, Literal
from urllib.parse import urlsplit

import msgspec
import pytest

from nbprovision.conda import health, rattler
from nbprovision.conda.ensure_conda_env import EnsureCondaEnv
from nbprovision.conda.query import Attempt, Query
from nbprovision.conda.records import details_of
from nbprovision.machine.environments import installed
from nbprovision.machine.machine import Machine
from nbprovision.model.errors import ProvisionError, TaskFailed
from nbprovision.model.task import Claim
from nbprovision.system.files import TEMPORARY_SUFFIX
from tests.support.conda_environments import conda_reads, env_of, moves, prefix_of, versions
from tests.support.conda_packages import PLACEHOLDER, TinyChannel
from tests.support.driver import converge, planned

pytestmark = pytest.mark.engine
NEEDS_CONDA = pytest.mark.skipif("NBPROVISION_TEST_CONDA" not in os.environ, reason="it names no real conda")


# ---------------------------------------------------------------------------------------------- made, and then in place


def test_an_environment_is_made_and_then_in_place(machine: Machine, tiny: TinyChannel, home: Path) -> None:
    changes = converge(env_of(tiny, "beta"), machine)
    assert [(one.action, one.target, one.after) for one in changes] == [
        ("create", "x", "present"),
        ("install", "alpha", "1.1"),
        ("install", "beta", "1.0"),
        ("register", "x", "environments.txt"),
    ]
    prefix = prefix_of(machine)
    assert (prefix / "share/beta.txt").read_text() == "beta 1.0\n"
    assert (home / ".conda/environments.txt").read_text() == f"{prefix}\n"
    assert machine.conda.prefix_of("x") == prefix
    machine.forget()
    [environment] = machine.conda.environments()
    assert environment.ours
    assert not environment.unfinished
    assert converge(env_of(tiny, "beta"), machine) == ()


READ = """
import sys
from pathlib import Path
started = []
sys.addaudithook(lambda event, args: started.append(event) if event in
    ("subprocess.Popen", "os.posix_spawn", "os.fork", "os.exec", "os.system") else None)
from nbprovision.machine.machine import Machine
from nbprovision.conda.ensure_conda_env import EnsureCondaEnv
machine = Machine(root=Path(sys.argv[1]))
task = EnsureCondaEnv(name="x", packages=["beta", "alpha==1.1", "gamma=3"], channels=[sys.argv[2]])
assert task.plan(task.read(machine)).changes == ()
heavy = {"rattler", "asyncio", "packaging", "yaml", "sh", "importlib.metadata"} & set(sys.modules)
print(started, heavy)
"""


def test_reading_what_is_in_place_starts_no_process_and_loads_no_solver(
    machine: Machine, tiny: TinyChannel, env: dict[str, str]
) -> None:
    converge(env_of(tiny, "beta", "alpha==1.1", "gamma=3"), machine)
    done = subprocess.run(
        [sys.executable, "-c", READ, str(machine.root), tiny.url],
        env={**env, "PYTHONPATH": str(Path(__file__).parents[2])},
        capture_output=True,
        text=True,
    )
    assert done.stdout == "[] set()\n", done.stderr


def test_an_environment_without_packages(machine: Machine, tiny: TinyChannel) -> None:
    converge(env_of(tiny), machine)
    assert machine.conda.names() == ["x"]
    assert "==>" in (prefix_of(machine) / "conda-meta/history").read_text()


def test_by_prefix(machine: Machine, tiny: TinyChannel, tmp_path: Path) -> None:
    task = EnsureCondaEnv(prefix=str(tmp_path / "some where/env"), packages="gamma", channels=tiny.url)
    converge(task, machine)
    assert versions(tmp_path / "some where/env") == {"gamma": "3.1"}
    assert task.declares(machine) == {"env": tmp_path / "some where/env"}


def test_progress_is_told(machine: Machine, tiny: TinyChannel) -> None:
    told: list[tuple[str, float, float]] = []
    machine.on_progress = lambda text, done, total: told.append((text, done, total))
    converge(env_of(tiny, "beta"), machine)
    assert told[-1] == ("x: linking", 2, 2)


# -------------------------------------------------------------------------------------- add, upgrade, downgrade, pin


def test_adding_keeps_the_rest_as_it_is(machine: Machine, tiny: TinyChannel) -> None:
    converge(env_of(tiny, "alpha"), machine)
    tiny.add("alpha", "2.5")
    assert moves(converge(env_of(tiny, "alpha", "gamma"), machine)) == [("install", "gamma", None, "3.1")]
    assert versions(prefix_of(machine)) == {"alpha": "2.0", "gamma": "3.1"}


def test_what_others_installed_stays(machine: Machine, tiny: TinyChannel) -> None:
    converge(env_of(tiny, "alpha", "gamma"), machine)
    assert converge(env_of(tiny, "alpha"), machine) == ()
    assert moves(converge(env_of(tiny, "alpha=1.0"), machine)) == [("downgrade", "alpha", "2.0", "1.0")]
    assert versions(prefix_of(machine)) == {"alpha": "1.0", "gamma": "3.1"}


@pytest.mark.parametrize(
    ("first", "then", "expected"),
    [
        ("alpha=1", "alpha>=2", ("upgrade", "alpha", "1.1", "2.0")),
        ("alpha", "alpha<2", ("downgrade", "alpha", "2.0", "1.1")),
        ("alpha", "alpha==1.0", ("downgrade", "alpha", "2.0", "1.0")),
        ("alpha", "alpha 1.0", ("downgrade", "alpha", "2.0", "1.0")),
        ("alpha 1.1", "alpha 1.1 b", ("change", "alpha", "1.1 0", "1.1 b")),
    ],
)
def test_moves(machine: Machine, tiny: TinyChannel, first: str, then: str, expected: tuple[str, ...]) -> None:
    converge(env_of(tiny, first), machine)
    tiny.add("alpha", "1.1", build="b", files={"share/alpha.txt": "built anew\n"})
    assert moves(converge(env_of(tiny, then), machine)) == [expected]


def test_what_stands_in_the_way_and_nobody_asked_for_goes(machine: Machine, tiny: TinyChannel) -> None:
    tiny.add("alpha", "1.1", build="with_delta", depends=["delta"])
    tiny.add("delta", "1.0")
    tiny.add("omega", "1.0", constrains=["delta <0"])
    converge(env_of(tiny, "alpha 1.1 with_delta"), machine)
    changes = moves(converge(env_of(tiny, "alpha", "omega"), machine))
    assert ("remove", "delta", "1.0", None) in changes
    assert "# remove specs: ['delta']" in (prefix_of(machine) / "conda-meta/history").read_text()


def test_a_pin_of_conda_holds(machine: Machine, tiny: TinyChannel) -> None:
    converge(env_of(tiny, "gamma"), machine)
    (prefix_of(machine) / "conda-meta/pinned").write_text("alpha 1.0.*\n")
    converge(env_of(tiny, "gamma", "alpha"), machine)
    assert versions(prefix_of(machine))["alpha"] == "1.0"


@pytest.mark.parametrize("place", ["meta", "condarc", "variable"])
def test_a_pin_is_named_where_it_makes_a_solution_impossible(
    machine: Machine, tiny: TinyChannel, home: Path, place: str
) -> None:
    """Whether the task names the package, or what it asks for needs it."""
    tiny.add("needy", "1.0", depends=["alpha >=2"])
    converge(env_of(tiny, "gamma"), machine)
    file = str(home / ".condarc")
    if place == "meta":
        (prefix_of(machine) / "conda-meta/pinned").write_text("# held\nalpha 1.0.*  # for the team\n")
        file = str(prefix_of(machine) / "conda-meta/pinned")
    elif place == "condarc":
        (home / ".condarc").write_text("pinned_packages:\n  - alpha 1.0.*\n")
    else:
        machine.env["CONDA_PINNED_PACKAGES"] = "alpha 1.0.*"
        file = "$CONDA_PINNED_PACKAGES"
    machine.forget()
    for asked in ("alpha=2", "needy"):
        with pytest.raises(TaskFailed) as caught:
            converge(env_of(tiny, "gamma", asked), machine)
        assert f"pinned: alpha 1.0.* in {file}" in caught.value.cause
        assert file in caught.value.cure
    converge(env_of(tiny, "gamma", "alpha"), machine)
    assert versions(prefix_of(machine))["alpha"] == "1.0"


def test_a_pin_that_cannot_be_read_is_told(machine: Machine, tiny: TinyChannel, home: Path) -> None:
    """The others hold."""
    (home / ".condarc").write_text("pinned_packages: [alpha 1.0.*, 'beta >>1', '=2']\n")
    task = env_of(tiny, "alpha")
    told = task.plan(task.read(machine)).warnings
    assert [text.partition(" is not a match spec")[0] for text in told if "match spec" in text] == [
        f"'{pin}' in {home}/.condarc (`pinned_packages`)" for pin in ("beta >>1", "=2")
    ]
    converge(task, machine)
    assert versions(prefix_of(machine)) == {"alpha": "1.0"}


@pytest.mark.parametrize("engine", ["rattler", pytest.param("conda", marks=NEEDS_CONDA)])
def test_a_pin_of_the_configuration_holds_in_a_new_environment(
    machine: Machine, tiny: TinyChannel, home: Path, engine: Literal["rattler", "conda"]
) -> None:
    if engine == "conda":
        machine.env["CONDA_EXE"] = os.environ["NBPROVISION_TEST_CONDA"]
    (home / ".condarc").write_text("pinned_packages: [alpha 1.0.*, 'unrelated=1']\n")
    with pytest.raises(TaskFailed) as caught:
        converge(env_of(tiny, "alpha=2", engine=engine), machine)
    assert f"pinned: alpha 1.0.* in {home}/.condarc" in caught.value.cause
    converge(env_of(tiny, "alpha", engine=engine), machine)
    assert versions(prefix_of(machine)) == {"alpha": "1.0"}
    (home / ".condarc").write_text("pinned_packages: [alpha 1.0.*]\nignore_pinned: true\n")
    machine.forget()
    converge(env_of(tiny, "alpha", update="latest", engine=engine), machine)
    assert versions(prefix_of(machine)) == {"alpha": "2.0"}


class Proxy(http.server.SimpleHTTPRequestHandler):
    """Gives the files of one folder, whatever host is asked for by its whole URL."""

    asked: ClassVar[list[str]] = []

    def do_GET(self) -> None:
        self.asked.append(self.path)
        self.path = urlsplit(self.path).path
        super().do_GET()

    def log_message(self, *arguments: Any) -> None: ...


@pytest.mark.parametrize("key", ["http", "http://channel.example", "all"])
def test_the_proxy_of_condas_configuration_is_used(machine: Machine, tiny: TinyChannel, home: Path, key: str) -> None:
    """A host that no name server knows is reached by it alone; variables do not count beside it, as for conda."""
    with http.server.ThreadingHTTPServer(
        ("127.0.0.1", 0), functools.partial(Proxy, directory=str(tiny.path))
    ) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        (home / ".condarc").write_text(f"proxy_servers:\n  {key}: http://127.0.0.1:{server.server_port}\n")
        machine.env.update(http_proxy="http://127.0.0.1:9", no_proxy="channel.example")
        Proxy.asked.clear()
        converge(EnsureCondaEnv(name="x", packages=["gamma"], channels=["http://channel.example"]), machine)
        server.shutdown()
    assert versions(prefix_of(machine)) == {"gamma": "3.1"}
    assert any(url.startswith("http://channel.example/noarch/gamma-3.1") for url in Proxy.asked)


def test_nodefaults_among_the_channels_is_not_one(machine: Machine, tiny: TinyChannel) -> None:
    converge(EnsureCondaEnv(name="x", packages=["gamma"], channels=["nodefaults", tiny.url]), machine)
    assert versions(prefix_of(machine)) == {"gamma": "3.1"}


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("channels: #!final\n  - {other}\n", "are `#!final`"),
        ("channels: [{other}]\noverride_channels_enabled: false\n", "override_channels_enabled"),
        ("allowlist_channels: [{other}]\n", "allowlist_channels"),
        ("whitelist_channels: [{other}]\n", "allowlist_channels"),
        ("denylist_channels: [{tiny}]\n", "denylist_channels"),
    ],
)
def test_a_channel_that_an_administrator_does_not_allow_is_refused(
    machine: Machine, tiny: TinyChannel, tmp_path: Path, text: str, reason: str
) -> None:
    """By the task's own `channels`, and by the name of a channel before a package."""
    other = TinyChannel(tmp_path / "other")
    other.add("gamma", "3.0")
    (machine.root / "etc/conda").mkdir(parents=True)
    (machine.root / "etc/conda/.condarc").write_text(text.format(other=other.url, tiny=tiny.url))
    for channels, asked in (([tiny.url], "gamma"), ([other.url], f"{tiny.url}::gamma")):
        with pytest.raises(TaskFailed, match="is not allowed on this machine") as caught:
            planned(EnsureCondaEnv(name="x", packages=[asked], channels=channels), machine)
        assert reason in caught.value.cause
    converge(EnsureCondaEnv(name="x", packages=["gamma"], channels=[other.url]), machine)
    assert versions(prefix_of(machine)) == {"gamma": "3.0"}


def test_python_keeps_its_minor_version_unless_it_is_named(machine: Machine, tiny: TinyChannel) -> None:
    for minor in ("3.10.1", "3.11.2", "3.12.3"):
        tiny.add("python", minor, files={"bin/python": f"{minor}\n"})
    tiny.add("new", "1.0", depends=["python >=3.12"])
    converge(env_of(tiny, "python=3.11"), machine)
    with pytest.raises(TaskFailed) as caught:
        converge(env_of(tiny, "new"), machine)
    assert "3.11" in caught.value.cause
    changes = converge(env_of(tiny, "new", "python"), machine)
    assert ("upgrade", "python", "3.11.2", "3.12.3") in moves(changes)


# --------------------------------------------------------------------------------------------------------- refusals


@pytest.mark.parametrize(
    ("packages", "message", "said"),
    [
        (["alfa"], "no channel has a package 'alfa'; did you mean 'alpha'?", "looked in file://"),
        (["alpha>=9"], "the requested packages are incompatible", "available versions of alpha: 1.0, 1.1, 2.0"),
        (["beta", "alpha=2"], "the requested packages are incompatible", "beta"),
    ],
)
def test_what_cannot_be_is_said(
    machine: Machine, tiny: TinyChannel, packages: list[str], message: str, said: str
) -> None:
    with pytest.raises(ProvisionError) as caught:
        planned(env_of(tiny, *packages), machine)
    assert caught.value.message == message
    assert said in caught.value.cause
    assert caught.value.cure
    assert not prefix_of(machine).exists()


def test_a_channel_that_is_not_there(machine: Machine, tmp_path: Path) -> None:
    task = EnsureCondaEnv(name="x", packages="alpha", channels=[str(tmp_path / "nowhere")])
    with pytest.raises(TaskFailed, match="cannot read the channel") as caught:
        planned(task, machine)
    assert "ensure_conda_channel" in caught.value.cure


def test_a_folder_of_the_users_own_is_refused(machine: Machine, tiny: TinyChannel, tmp_path: Path) -> None:
    mine = tmp_path / "mine"
    mine.mkdir()
    (mine / "thesis.tex").write_text("years of work")
    with pytest.raises(TaskFailed, match="is not a conda environment"):
        planned(env_of(tiny, "alpha", name=None, prefix=str(mine)), machine)
    with pytest.raises(TaskFailed, match="is not a conda environment"):
        planned(EnsureCondaEnv(prefix=str(mine), state="absent"), machine)
    assert (mine / "thesis.tex").read_text() == "years of work"


# ---------------------------------------------------------------------------------------------------------- removal


def test_absent(machine: Machine, tiny: TinyChannel, home: Path) -> None:
    converge(env_of(tiny, "alpha"), machine)
    converge(env_of(tiny, "gamma", name="y"), machine)
    gone = EnsureCondaEnv(name="x", state="absent")
    assert [one.action for one in converge(gone, machine)] == ["remove", "unregister"]
    assert [path.name for path in (machine.home / "envs").iterdir()] == ["y"]
    assert (home / ".conda/environments.txt").read_text() == f"{machine.home}/envs/y\n"
    assert converge(gone, machine) == ()


def test_what_a_killed_removal_left_is_cleaned(machine: Machine, tiny: TinyChannel) -> None:
    converge(env_of(tiny, "alpha"), machine)
    left = machine.home / f"envs/.x.abc123{TEMPORARY_SUFFIX}"
    (left / "x/share").mkdir(parents=True)
    other = machine.home / f"envs/.x.y.abc123{TEMPORARY_SUFFIX}"
    other.mkdir()
    assert [one.action for one in converge(env_of(tiny, "alpha"), machine)] == ["clean"]
    assert not left.exists()
    assert other.exists()


def test_an_installation_is_never_removed(machine: Machine, home: Path) -> None:
    base = home / "miniforge3"
    (base / "conda-meta").mkdir(parents=True)
    for task in (EnsureCondaEnv(name="base", state="absent"), EnsureCondaEnv(prefix=str(base), state="absent")):
        with pytest.raises(TaskFailed, match="conda installation"):
            planned(task, machine)


# ------------------------------------------------------------------------------ an ordinary environment for every tool


def test_history_is_condas(machine: Machine, tiny: TinyChannel) -> None:
    converge(env_of(tiny, "alpha=1.0"), machine)
    converge(env_of(tiny, "alpha=1.1", "gamma"), machine)
    history = (prefix_of(machine) / "conda-meta/history").read_text()
    where = f"{tiny.url}/noarch::"
    assert conda_reads(history) == [
        ([f"+{where}alpha-1.0-0"], ["alpha=1.0"]),
        ([f"-{where}alpha-1.0-0", f"+{where}alpha-1.1-0", f"+{where}gamma-3.1-0"], ["alpha=1.1", "gamma"]),
    ]
    assert history.count("# cmd: nbprovision run\n# conda version: 4.5.0\n") == 2


@pytest.mark.parametrize("place", ["miniforge3", "my conda install/conda create", "$(touch x)/conda"])
def test_the_command_in_the_history_is_safe_for_notebooks(
    machine: Machine, tiny: TinyChannel, home: Path, place: str
) -> None:
    """IPython runs what its pattern takes for the path of conda."""
    conda = home / place / "bin/conda"
    conda.parent.mkdir(parents=True)
    conda.write_text("#!/bin/sh\n")
    conda.chmod(0o755)
    machine.env["CONDA_EXE"] = str(conda)
    tiny.add("conda", "1.0")
    converge(env_of(tiny, "conda", "alpha"), machine)
    history = (prefix_of(machine) / "conda-meta/history").read_text()
    found = re.search(r"^#\s*cmd:\s*(?P<command>.*conda)\s[create|install]", history, flags=re.MULTILINE)
    assert (found["command"] if found else None) == (str(conda) if place == "miniforge3" else None)


def test_requests_of_old_are_kept(machine: Machine, tiny: TinyChannel) -> None:
    """The engine would take the mention from every record that it is not told of again."""
    converge(env_of(tiny, "alpha<2"), machine)
    converge(env_of(tiny, "gamma"), machine)
    records = {record.name: details_of(record) for record in installed(prefix_of(machine))}
    requested = {name: details.requested for name, details in records.items() if details}
    assert requested == {"alpha": ["alpha <2"], "gamma": ["gamma"]}


def test_a_record_of_conda_is_read(tmp_path: Path) -> None:
    """conda writes one requested spec where other tools write several."""
    (tmp_path / "conda-meta").mkdir()
    record = {"name": "a", "version": "1", "build": "0", "requested_spec": "conda-forge/linux-64::a==1=0"}
    (tmp_path / "conda-meta/a-1-0.json").write_bytes(msgspec.json.encode(record))
    [found] = installed(tmp_path)
    details = details_of(found)
    assert details is not None
    assert health.requested({"a": details}) == {"a": "a ==1=0"}


def test_after_a_restart_only_the_registration_is_missing(machine: Machine, tiny: TinyChannel, home: Path) -> None:
    converge(env_of(tiny, "alpha"), machine)
    (home / ".conda/environments.txt").write_text("/some/other")
    machine.forget()
    assert [one.action for one in converge(env_of(tiny, "alpha"), machine)] == ["register"]
    assert (home / ".conda/environments.txt").read_text() == f"/some/other\n{prefix_of(machine)}\n"


def test_registration_as_condarc_says(machine: Machine, tiny: TinyChannel, home: Path) -> None:
    (home / ".condarc").write_text("register_envs: false\n")
    converge(env_of(tiny, "alpha"), machine)
    assert not (home / ".conda/environments.txt").exists()


def test_the_prefix_is_written_absolute(machine: Machine, tiny: TinyChannel, tmp_path: Path) -> None:
    """A relative prefix would be written into scripts as it stands."""
    tiny.add("script", "1.0", files={"bin/script.sh": f"#!{PLACEHOLDER}/bin/python\n"})
    solution = rattler.solve(machine, Query(attempts=[Attempt(specs=["script"])], channels=(tiny.url,)))
    relative = Path(os.path.relpath(tmp_path / "env"))
    solution.install(machine, relative, requested=[])
    assert (tmp_path / "env/bin/script.sh").read_text() == f"#!{tmp_path}/env/bin/python\n"


def test_scripts_of_packages_run(machine: Machine, tiny: TinyChannel) -> None:
    """As under conda; the engine by itself runs none."""
    tiny.add("scripted", "1.0", files={"bin/.scripted-post-link.sh": '#!/bin/sh\necho ran > "$PREFIX/ran"\n'})
    converge(env_of(tiny, "scripted"), machine)
    assert (prefix_of(machine) / "ran").read_text() == "ran\n"


def test_the_preferred_channel_is_not_passed_over(machine: Machine, tiny: TinyChannel, tmp_path: Path) -> None:
    """conda refuses a version that only a channel of lower priority has; the engine by itself would take it."""
    lower = TinyChannel(tmp_path / "lower")
    lower.add("alpha", "3.0")
    lower.add("sigma", "1.0", depends=["alpha"])
    with pytest.raises(TaskFailed, match="the requested packages are incompatible"):
        planned(env_of(tiny, "alpha>=3", channels=[tiny.url, lower.url]), machine)
    converge(env_of(tiny, "sigma", "alpha", channels=[tiny.url, lower.url]), machine)
    assert versions(prefix_of(machine)) == {"alpha": "2.0", "sigma": "1.0"}


def test_a_spec_may_name_its_channel(machine: Machine, tiny: TinyChannel, tmp_path: Path) -> None:
    lower = TinyChannel(tmp_path / "lower")
    lower.add("alpha", "3.0")
    (machine.user_home / ".condarc").write_text(f"custom_channels:\n  lower: {tmp_path.as_uri()}\n")
    task = env_of(tiny, "lower::alpha", "gamma")
    converge(task, machine)
    assert versions(prefix_of(machine)) == {"alpha": "3.0", "gamma": "3.1"}
    assert moves(converge(env_of(tiny, f"{tiny.url}::alpha"), machine)) == [("downgrade", "alpha", "3.0", "2.0")]


# ----------------------------------------------------------------------------------- pip's side of an environment


def test_what_pip_claims_does_not_move(machine: Machine, tiny: TinyChannel) -> None:
    """A package whose distribution a pip task wants stays where it is, unless there is no other way."""
    converge(env_of(tiny, "alpha=1.1", "gamma"), machine)
    prefix = prefix_of(machine)
    tiny.add("delta", "1.0", depends=["alpha <1.1"])
    tiny.add("delta", "0.9", depends=["alpha"])
    machine.claims.append(Claim(prefix, "Alpha==1.1"))
    assert moves(converge(env_of(tiny, "delta"), machine)) == [("install", "delta", None, "0.9")]
    changes = moves(converge(env_of(tiny, "delta>=1"), machine))
    assert ("downgrade", "alpha", "1.1", "1.0") in changes


# ------------------------------------------------------------------------------------------------------ files, caches


def test_environment_yml(machine: Machine, tiny: TinyChannel, tmp_path: Path) -> None:
    file = tmp_path / "environment.yml"
    file.write_text(
        f"name: from-file\nchannels: [{tiny.url}, nodefaults]\ndependencies: [beta, gamma=3]\n"
        "variables: {MODE: fast}\nprefix: /somewhere/else\n"
    )
    task = EnsureCondaEnv(name="x", file=str(file))
    converge(task, machine)
    assert versions(prefix_of(machine)) == {"alpha": "1.1", "beta": "1.0", "gamma": "3.1"}
    state = json.loads((prefix_of(machine) / "conda-meta/state").read_text())
    assert state == {"env_vars": {"MODE": "fast"}}
    file.write_text(file.read_text().replace("fast", "slow"))
    assert [one.action for one in converge(task, machine)] == ["set"]


def test_environment_yml_names_the_environment(machine: Machine, tiny: TinyChannel, tmp_path: Path) -> None:
    file = tmp_path / "environment.yml"
    file.write_text(f"name: x\nchannels: [{tiny.url}]\ndependencies: [gamma]\n")
    converge(EnsureCondaEnv(file=str(file)), machine)
    assert versions(prefix_of(machine)) == {"gamma": "3.1"}


def test_condas_package_cache_is_used_where_it_is_configured(
    machine: Machine, tiny: TinyChannel, tmp_path: Path
) -> None:
    machine.env["CONDA_PKGS_DIRS"] = str(tmp_path / "shared-pkgs")
    converge(env_of(tiny, "alpha"), machine)
    assert (tmp_path / "shared-pkgs/alpha-2.0-0").is_dir()
