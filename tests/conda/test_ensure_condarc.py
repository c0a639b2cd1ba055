"""conda's configuration by a playbook: merged, given back, kept safe, and seen by the environments that are made."""

from __future__ import annotations

import hashlib
import json
import os
import stat
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml
from msgspec import structs

from nbprovision.conda import anaconda_terms
from nbprovision.conda.ensure_conda_env import EnsureCondaEnv
from nbprovision.conda.ensure_condarc import EnsureCondarc
from nbprovision.machine.condarc import Condarc, read_condarc
from nbprovision.machine.environments import installed
from nbprovision.machine.machine import Machine
from nbprovision.machine.platform import Platform
from nbprovision.model.errors import ParameterError, ProvisionError, TaskFailed
from tests.support.conda_packages import TinyChannel
from tests.support.driver import converge, planned

ROOT = Path(__file__).parents[2]
MINE = "# mine\nchannels:\n  # the old ones\n  - lab   # ours\n  - conda-forge\nreport_errors:  'no'\nssl_verify: yes\n"


class User:
    """Who runs the command on playbooks of theirs."""

    def __init__(self, env: dict[str, str], folder: Path) -> None:
        self.env = {**env, "PYTHONPATH": str(ROOT)}
        self.folder = folder
        self.condarc = Path(env["HOME"]) / ".condarc"

    def run(self, text: str, *words: str, status: int = 0) -> Any:
        playbook = self.folder / "playbook.yml"
        playbook.write_text(text)
        argv = [sys.executable, "-m", "nbprovision", "run", str(playbook), "--format", "json", *words]
        done = subprocess.run(argv, env=self.env, capture_output=True, text=True, cwd="/", timeout=300)
        assert done.returncode == status, done.stdout + done.stderr
        return json.loads(done.stdout) if done.stdout else done.stderr

    def output(self, *words: str) -> str:
        argv = [sys.executable, "-m", "nbprovision", "run", str(self.folder / "playbook.yml"), *words]
        return subprocess.run(argv, env=self.env, capture_output=True, text=True, cwd="/", timeout=300).stdout


@pytest.fixture
def user(env: dict[str, str], tmp_path: Path) -> User:
    return User(env, tmp_path)


@pytest.fixture
def tiny(tmp_path: Path) -> TinyChannel:
    channel = TinyChannel(tmp_path / "mirror/pkgs/main")
    channel.add("alpha", "1.0")
    return channel


def only(document: Any) -> Any:
    (task,) = document["tasks"]
    return task


def test_merged_twice_and_seen_in_the_diff(user: User) -> None:
    user.condarc.write_text(MINE)
    user.condarc.chmod(0o640)
    text = """\
- tasks:
    - ensure_condarc:
        channels: [team, conda-forge]
        channel_alias: https://mirror.example/conda
        envs_dirs: ~/volume/envs
"""
    planned_only = only(user.run(text, "--check"))
    assert planned_only["status"] == "changed"
    assert user.condarc.read_text() == MINE
    assert "+  - team" in user.output("--check", "--diff")
    assert only(user.run(text))["changes"] == planned_only["changes"]
    assert user.condarc.read_text() == (
        "# mine\nchannels:\n  - team\n  - conda-forge\n  # the old ones\n  - lab   # ours\nreport_errors:  'no'\nssl_verify: yes\n"
        "channel_alias: https://mirror.example/conda\nenvs_dirs:\n  - ~/volume/envs\n"
    )
    assert stat.S_IMODE(user.condarc.stat().st_mode) == 0o640
    before = user.condarc.stat()
    assert only(user.run(text))["status"] == "ok"
    assert only(user.run(text, "--no-witness"))["proof"] == "check"
    assert user.condarc.stat() == before
    user.condarc.write_text(user.condarc.read_text().replace("  - team\n", ""))
    assert only(user.run(text))["status"] == "changed"
    assert read_condarc(user.env, Path(user.env["HOME"]), None, user.folder).channels == ("team", "conda-forge", "lab")


def test_exact_and_absent(user: User) -> None:
    user.condarc.write_text(MINE)
    exact = "- tasks:\n    - ensure_condarc: {channels: [team], custom_channels: {lab: 'https://lab.example'}, exact: true}\n"
    user.run(exact)
    assert user.condarc.read_text().startswith("# mine\nchannels:\n  # the old ones\n  - team\nreport_errors:")
    absent = exact.replace("exact", "state").replace("true", "absent")
    user.run(absent)
    assert user.condarc.read_text() == "# mine\n  # the old ones\nreport_errors:  'no'\nssl_verify: yes\n"
    assert only(user.run(absent))["status"] == "ok"
    user.condarc.write_text("channels: [team]\n")
    user.run(absent)
    assert not user.condarc.exists()


def test_a_file_that_is_no_yaml_is_refused_with_its_place(user: User) -> None:
    user.condarc.write_text("channels:\n  - a\n bad: [\n")
    document = user.run(
        "- tasks:\n    - ensure_condarc: {channels: [team]}\n    - ensure_condarc: {ssl_verify: false}\n", status=2
    )
    error = document["tasks"][0]["error"]
    assert (error["file"], error["line"]) == (str(user.condarc), 3)
    assert f"{user.condarc}:3:2" in user.output()
    assert user.condarc.read_text() == "channels:\n  - a\n bad: [\n"


def test_a_link_is_followed(user: User) -> None:
    target = user.condarc.parent / "dotfiles/condarc"
    target.parent.mkdir()
    target.write_text(MINE)
    user.condarc.symlink_to(target)
    user.run("- tasks:\n    - ensure_condarc: {channels: [team]}\n")
    assert user.condarc.is_symlink()
    assert "  - team\n" in target.read_text()


def test_a_password_is_for_its_owner_only_and_shown_nowhere(user: User) -> None:
    user.condarc.write_text(MINE)
    text = "- tasks:\n    - ensure_condarc: {channels: ['https://me:s3cretword@c.example/x', 'https://c.example/t/t0kenword/y']}\n"
    document = user.run(text, "--diff")
    assert stat.S_IMODE(user.condarc.stat().st_mode) == 0o600
    assert {change["action"] for change in only(document)["changes"]} == {"change", "change mode"}
    user.condarc.chmod(0o644)
    assert [change["action"] for change in only(user.run(text))["changes"]] == ["change mode"]
    rotated = text.replace("s3cretword", "0therword")
    assert [change["action"] for change in only(user.run(rotated))["changes"]] == ["change password"]
    assert "s3cretword" not in user.condarc.read_text()
    told = json.dumps(document) + user.output("--check", "--diff", "-v", "--no-witness")
    told += "".join(
        path.read_text(errors="replace") for path in Path(user.env["NBPROVISION_HOME"]).rglob("*") if path.is_file()
    )
    for word in ("s3cretword", "t0kenword", "0therword"):
        assert word not in told


def test_a_password_stays_off_the_volume(machine: Machine, tmp_path: Path) -> None:
    volume = tmp_path / "volume"
    volume.mkdir()
    machine.__dict__["platform"] = Platform("notebook-instance", "a test", volume)
    (machine.user_home / ".condarc").symlink_to(volume / "condarc")
    task = EnsureCondarc(channels="https://me:s3cretword@c.example/x")
    with pytest.raises(TaskFailed, match="cannot be written") as caught:
        planned(task, machine)
    assert "s3cretword" not in caught.value.text
    assert not (volume / "condarc").exists()
    converge(EnsureCondarc(channels="team"), machine)
    assert (volume / "condarc").read_text() == "channels:\n  - team\n"


@pytest.mark.parametrize(
    ("parameters", "key"),
    [
        ({}, ""),
        ({"scope": "env", "channels": ["x"]}, "scope"),
        ({"env": "x", "channels": ["x"]}, "env"),
        ({"channels": [" "]}, "channels"),
        ({"channels": ["a\nssl_verify: false"]}, "channels"),
        ({"envs_dirs": "envs"}, "envs_dirs"),
        ({"channel_alias": "mirror.example"}, "channel_alias"),
        ({"settings": {"channels": ["x"]}}, "settings"),
        ({"scope": "system", "channels": "https://c.example/t/t0kenword/y"}, "scope"),
        ({"scope": "env", "env": "x", "default_channels": ["https://a:b3stword@c.example/y"]}, "scope"),
    ],
)
def test_what_makes_no_sense_is_refused(parameters: dict[str, Any], key: str) -> None:
    with pytest.raises(ParameterError) as caught:
        EnsureCondarc(**parameters)
    assert caught.value.key == key
    assert "t0kenword" not in caught.value.text
    assert "b3stword" not in caught.value.text


def test_for_the_whole_machine_and_for_an_environment(machine: Machine) -> None:
    machine.root.chmod(0o755)
    converge(EnsureCondarc(scope="system", ssl_verify=False, channels="team"), machine)
    assert (machine.root / "etc/conda/.condarc").read_text() == "channels:\n  - team\nssl_verify: false\n"
    machine.forget()
    assert machine.conda.condarc.channels == ("team",)
    prefix = machine.home / "envs/x"
    task = EnsureCondarc(scope="env", env=str(prefix), settings={"offline": True})
    with pytest.raises(ProvisionError, match="no environment"):
        planned(task, machine)
    (prefix / "conda-meta").mkdir(parents=True)
    converge(task, machine)
    assert (prefix / ".condarc").read_text() == "offline: true\n"


def test_other_spellings_are_the_same_entry(machine: Machine) -> None:
    file = machine.user_home / ".condarc"
    file.write_text(f"envs_path: [~/envs, {machine.user_home}/other]\nchannels: [https://c.example/x/]\n")
    task = EnsureCondarc(envs_dirs=[f"{machine.user_home}/other", "$HOME/envs"], channels="https://c.example/x")
    converge(task, machine)
    assert file.read_text() == f"envs_path: [{machine.user_home}/other, ~/envs]\nchannels: [https://c.example/x/]\n"


def test_what_is_stronger_is_told(machine: Machine) -> None:
    machine.env["CONDA_CHANNELS"] = "other"
    task = EnsureCondarc(channels="team", ssl_verify="/no/such/file")
    converge(task, machine)
    first, second = task.plan(task.read(machine)).warnings
    assert "/no/such/file" in first
    assert "`channels` begins with other all the same" in second


def test_a_mirror_that_is_overruled_is_told(machine: Machine, tmp_path: Path) -> None:
    bundle = tmp_path / "ca.pem"
    bundle.touch()
    machine.env["CONDA_CHANNEL_ALIAS"] = "https://other.example"
    task = EnsureCondarc(channel_alias="https://mirror.example", ssl_verify=str(bundle))
    converge(task, machine)
    (warning,) = task.plan(task.read(machine)).warnings
    assert "`channel_alias` is https://other.example all the same" in warning


def test_a_link_of_the_whole_machine_is_never_followed(machine: Machine, tmp_path: Path) -> None:
    file, elsewhere = machine.root / "etc/conda/.condarc", tmp_path / "condarc"
    file.parent.mkdir(parents=True)
    elsewhere.write_text(MINE)
    file.symlink_to(elsewhere)
    task = EnsureCondarc(scope="system", channels="team")
    with pytest.raises(TaskFailed, match="a link that leads elsewhere, and is not followed") as caught:
        planned(task, machine)
    assert str(elsewhere) in caught.value.cause
    assert elsewhere.read_text() == MINE


@pytest.mark.parametrize(
    ("scope", "cure"), [("system", "use `scope: user`"), ("user", "check who owns it (ls -ld) and run as that user")]
)
def test_a_file_that_is_another_users_is_refused(machine: Machine, scope: Any, cure: str) -> None:
    task = EnsureCondarc(scope=scope, channels="team")
    state = task.read(machine)
    theirs = structs.replace(state, file=structs.replace(state.file, writable=False))
    with pytest.raises(TaskFailed, match="cannot write") as caught:
        task.plan(theirs)
    assert caught.value.cure == cure


def test_an_environment_that_is_gone_by_then_gets_no_file(machine: Machine, tmp_path: Path) -> None:
    """Its own configuration is nothing that tasks before it are planned with."""
    prefix = tmp_path / "x"
    prefix.mkdir()
    task = EnsureCondarc(scope="env", env=str(prefix), channels="team")
    assert task.configures(machine) == {}
    plan = task.plan(task.read(machine))
    prefix.rmdir()
    with pytest.raises(TaskFailed, match="there is no environment at"):
        task.apply(plan, machine)
    assert not prefix.exists()


NAMED = """\
- tasks:
    - name: Where
      ensure_condarc:
        envs_dirs: ["{volume}/envs"]
        pkgs_dirs: ["{volume}/pkgs"]
        channels: ["{url}"]
    - name: Environment
      ensure_conda_env: {{name: x, packages: [alpha]}}
"""


@pytest.mark.engine
@pytest.mark.parametrize("later", [False, True], ids=["before", "after the environment"])
def test_the_install_location_is_moved(user: User, tiny: TinyChannel, later: bool) -> None:
    """New environments and packages go to the volume, where they share files; a check says the same before."""
    volume = user.folder / "volume"
    text = NAMED.format(volume=volume, url=tiny.url)
    if later:
        tasks = text.removeprefix("- tasks:\n").split("    - name: ")
        text = f"- tasks:\n    - name: {tasks[2]}    - name: {tasks[1]}"
    told = user.run(text, "--check")
    assert [task["status"] for task in told["tasks"]] == ["changed", "changed"]
    assert not volume.exists()
    user.run(text)
    prefix = volume / "envs/x"
    assert [record.name for record in installed(prefix)] == ["alpha"]
    file = prefix / "share/alpha.txt"
    (cached,) = (volume / "pkgs").rglob("share/alpha.txt")
    assert file.samefile(cached)
    assert user.run(text)["counts"]["ok"] == 2
    assert user.run(text, "--no-witness")["counts"]["ok"] == 2
    user.condarc.unlink()  # as a restart does
    assert [task["status"] for task in sorted(user.run(text)["tasks"], key=lambda task: task["task"])] == [
        "ok",
        "changed",
    ]
    assert not (Path(user.env["NBPROVISION_HOME"]) / "envs").exists()


@pytest.mark.engine
def test_what_needs_a_configuration_that_fails_is_left_out(user: User, tiny: TinyChannel) -> None:
    user.condarc.write_text("channels: [\n")
    document = user.run(NAMED.format(volume=user.folder / "volume", url=tiny.url), status=2)
    assert [task["status"] for task in document["tasks"]] == ["failed", "skipped"]


def test_the_volume_of_an_instance_comes_first(machine: Machine, tmp_path: Path) -> None:
    """On an instance a folder that a restart would empty is no place for a new environment."""
    volume = tmp_path / "SageMaker"
    volume.mkdir()
    machine.__dict__["platform"] = Platform("notebook-instance", "a test", volume)
    assert machine.conda.new_prefix("x") == volume / "envs/x"
    machine.expect(EnsureCondarc(envs_dirs=[str(tmp_path / "elsewhere")]).configures(machine))
    assert machine.conda.new_prefix("x") == volume / "envs/x"
    machine.expect(EnsureCondarc(envs_dirs=[str(volume / "mine/envs")]).configures(machine))
    assert machine.conda.new_prefix("x") == volume / "mine/envs/x"


@pytest.mark.engine
@pytest.mark.parametrize("way", ["default_channels", "channel_alias", "custom_channels"])
def test_a_mirror(user: User, tiny: TinyChannel, way: str) -> None:
    """A playbook that names conda's own channels gets its packages from the mirror; history names them as conda does."""
    base = (user.folder / "mirror").as_uri()
    name, setting = {
        "default_channels": ("defaults", f"default_channels: ['{tiny.url}']"),
        "channel_alias": ("main", f"channel_alias: {base}/pkgs"),
        "custom_channels": ("pkgs/main", f"custom_channels: {{pkgs/main: '{base}'}}"),
    }[way]
    text = f"""\
- tasks:
    - ensure_condarc: {{{setting}}}
    - ensure_conda_env: {{name: x, channels: [{name}], packages: [alpha]}}
"""
    document = user.run(text)
    assert document["counts"]["changed"] == 2
    assert [task["warnings"] for task in document["tasks"]] == [[], []]  # a mirror: no word of Anaconda's terms
    prefix = Path(user.env["NBPROVISION_HOME"]) / "envs/x"
    if way != "channel_alias":  # without a conda, envs_dirs is not what decides
        assert prefix.is_dir()
    history = (prefix / "conda-meta/history").read_text()
    assert f"+{name}/noarch::alpha-1.0-0\n" in history
    assert user.run(text, "--no-witness")["counts"]["ok"] == 2


# ---------------------------------------------------------------------------------------------- terms of service

MAIN = ("https://repo.anaconda.com/pkgs/main", "https://repo.anaconda.com/pkgs/r")


def test_defaults_are_the_main_repository() -> None:
    assert tuple(Condarc().urls("defaults")) == MAIN
    assert Condarc().name_of(MAIN[0]) == "defaults"


def test_the_terms_of_the_main_repository_are_told_and_never_stop(user: User, tiny: TinyChannel) -> None:
    """No package comes from there here: the environment has what it asks for already."""
    url = tiny.url
    user.run(f"- tasks:\n    - ensure_conda_env: {{name: x, channels: ['{url}'], packages: [alpha]}}\n")
    text = "- tasks:\n    - ensure_conda_env: {name: x, channels: [defaults], packages: [alpha]}\n"
    (warning,) = only(user.run(text))["warnings"]
    assert f"Anaconda's terms of service apply to {MAIN[0]} and {MAIN[1]} (https://" in warning
    assert f"conda tos accept --override-channels --channel {MAIN[0]} --channel {MAIN[1]}" in warning
    assert only(user.run(text.replace("defaults", "conda-forge")))["warnings"] == []
    (warning,) = only(user.run("- tasks:\n    - ensure_condarc: {channels: [defaults]}\n"))["warnings"]
    assert "terms of service" in warning


@pytest.mark.parametrize("way", ["variable", "setting", "accepted"])
def test_who_has_accepted_the_terms_hears_no_more_of_them(machine: Machine, way: str) -> None:
    assert anaconda_terms.notes(machine, MAIN)
    if way == "variable":
        machine.env["CONDA_PLUGINS_AUTO_ACCEPT_TOS"] = "yes"
    elif way == "setting":
        (machine.user_home / ".condarc").write_text("plugins:\n  auto_accept_tos: true\n")
    else:  # as `conda tos accept` writes it: a folder by the digest of the channel's place and name
        for name in ("pkgs/main", "pkgs/r"):
            assert anaconda_terms.notes(machine, MAIN)
            folder = machine.user_home / ".conda/tos" / hashlib.sha256(f"repo.anaconda.com{name}".encode()).hexdigest()
            folder.mkdir(parents=True)
            (folder / "1752508800.0.json").write_text('{"version": "2025-07-15", "tos_accepted": true}')
    machine.forget()
    assert anaconda_terms.notes(machine, MAIN) == ()


def test_a_changed_configuration_is_looked_at_again(user: User, tiny: TinyChannel) -> None:
    """The environment's witnesses include every file that conda would read."""
    text = f"- tasks:\n    - ensure_conda_env: {{name: x, channels: ['{tiny.url}'], packages: [alpha]}}\n"
    user.run(text)
    assert only(user.run(text))["proof"] == "witness"
    folder = Path(user.env["HOME"]) / ".config/conda"
    folder.mkdir(parents=True)
    (folder / "condarc").write_text("channels: [x]\n")
    assert only(user.run(text))["proof"] == "check"
    assert os.path.isdir(folder)


NESTED = {
    "proxy_servers": {"http": "http://proxy.example:3128", "https": "http://proxy.example:3128"},
    "plugins": {"auto_accept_tos": True, "deep": {"er": [1, "two"]}},
    "channel_settings": [{"channel": "https://c.example", "auth": "handler"}],
    "remote_read_timeout_secs": 61.5,
    "pinned_packages": ["python 3.12.*"],
}


def test_settings_are_nested_mappings(machine: Machine, home: Path) -> None:
    """As a user would write them, merged with what is there, and taken out again."""
    (home / ".condarc").write_text("proxy_servers: #!final\n  ftp: f  # mine\nplugins: {deep: {own: 1}}\n")
    converge(EnsureCondarc(settings=NESTED), machine)
    text = (home / ".condarc").read_text()
    assert yaml.safe_load(text) == {
        **NESTED,
        "proxy_servers": {"ftp": "f", **NESTED["proxy_servers"]},  # type: ignore[dict-item]
        "plugins": {"deep": {"own": 1, "er": [1, "two"]}, "auto_accept_tos": True},
    }
    assert text.startswith("proxy_servers: #!final\n  ftp: f  # mine\n")
    machine.forget()
    assert machine.conda.condarc.proxy_servers["https"] == "http://proxy.example:3128"
    assert machine.conda.condarc.auto_accept_tos
    converge(EnsureCondarc(settings=NESTED, state="absent"), machine)
    left = yaml.safe_load((home / ".condarc").read_text())
    assert left == {"proxy_servers": {"ftp": "f"}, "plugins": {"deep": {"own": 1}}}


def test_a_password_of_a_proxy_makes_the_file_private(machine: Machine, home: Path) -> None:
    proxy = {"proxy_servers": {"https": "http://user:S3cret-in-condarc@proxy.example:3128"}}
    changes = converge(EnsureCondarc(settings=proxy), machine)
    assert stat.S_IMODE((home / ".condarc").stat().st_mode) == 0o600
    assert "S3cret-in-condarc" not in str(changes)
    with pytest.raises(ParameterError, match="scope: system"):
        EnsureCondarc(settings=proxy, scope="system")


@pytest.mark.parametrize(
    ("parameters", "said"),
    [
        ({"settings": {"default_python": None}}, "`default_python` has no value"),
        ({"settings": {"proxy_servers": {"https": None}}}, "`proxy_servers` has no value"),
        ({"settings": {"proxy_servers": {1: "x"}}}, "a name that is not text"),
        ({"settings": {"x": [float("nan")]}}, "a type unknown to conda"),
        ({"settings": {"x": {"y": " "}}}, "an empty entry"),
        ({"channels": ["a", "nodefaults"]}, "`nodefaults` is not a channel"),
        ({"default_channels": "nodefaults"}, "`nodefaults` is not a channel"),
    ],
)
def test_what_conda_could_not_use_is_refused(parameters: dict[str, Any], said: str) -> None:
    with pytest.raises(ParameterError, match=said) as caught:
        EnsureCondarc(**parameters)
    assert caught.value.cure or said == "an empty entry"


def test_nodefaults_can_be_taken_out(machine: Machine, home: Path) -> None:
    (home / ".condarc").write_text("channels: [a, nodefaults]\n")
    converge(EnsureCondarc(channels="nodefaults", state="absent"), machine)
    assert (home / ".condarc").read_text() == "channels: [a]\n"


def test_a_final_setting_of_the_administrator_is_named(machine: Machine, home: Path) -> None:
    place = machine.root / "etc/conda/.condarc"
    place.parent.mkdir(parents=True)
    place.write_text("channels: #!final\n  - admin\n")
    converge(EnsureCondarc(channels=["mine"]), machine)
    machine.forget()
    task = EnsureCondarc(channels=["mine"])
    assert any("begins with admin all the same" in text for text in task.plan(task.read(machine)).warnings)
    assert machine.conda.channels() == ["https://conda.anaconda.org/admin"]


def test_an_environment_of_conda_itself_is_planned_with_the_configuration(machine: Machine, tmp_path: Path) -> None:
    machine.expect(EnsureCondarc(envs_dirs=[str(tmp_path / "a")]).configures(machine))
    machine.expect(EnsureCondarc(pkgs_dirs=[str(tmp_path / "p")]).configures(machine))
    assert machine.conda.condarc.pkgs_dirs == (str(tmp_path / "p"),)
    assert EnsureCondaEnv(name="x").declares(machine) == {"x": tmp_path / "a/x"}


@pytest.mark.engine
@pytest.mark.skipif("NBPROVISION_TEST_CONDA" not in os.environ, reason="NBPROVISION_TEST_CONDA names no real conda")
def test_a_real_conda_reads_it_as_it_is_meant(user: User, tiny: TinyChannel) -> None:
    """The same settings, environments where conda looks for them, and its own names for the channels."""
    conda = os.environ["NBPROVISION_TEST_CONDA"]
    volume = user.folder / "volume"
    user.condarc.write_text(MINE.replace("conda-forge", "defaults"))
    text = f"""\
- tasks:
    - ensure_condarc:
        channels: [defaults]
        default_channels: ['{tiny.url}']
        channel_alias: https://mirror.example/conda
        custom_channels: {{team: 'https://team.example'}}
        envs_dirs: '{volume}/envs'
        pkgs_dirs: '{volume}/pkgs'
        settings: {{auto_update_conda: false, remote_max_retries: 1}}
    - ensure_conda_env: {{name: x, channels: [defaults], packages: [alpha]}}
"""
    user.env["CONDA_EXE"] = conda
    user.run(text)

    def asked(*words: str) -> Any:
        done = subprocess.run([conda, *words, "--json"], env=user.env, capture_output=True, text=True, cwd="/")
        assert done.returncode == 0, done.stdout + done.stderr
        return json.loads(done.stdout)

    shown = asked("config", "--show")
    assert shown["channels"] == ["defaults", "lab"]
    assert [f"file:///{one['name']}" for one in shown["default_channels"]] == [tiny.url]
    assert shown["channel_alias"]["location"] == "mirror.example/conda"
    assert shown["custom_channels"]["team"]["location"] == "team.example"
    assert shown["envs_dirs"][0] == str(volume / "envs")
    assert shown["pkgs_dirs"] == [str(volume / "pkgs")]
    assert (shown["auto_update_conda"], shown["remote_max_retries"], shown["ssl_verify"]) == (False, 1, True)
    assert str(volume / "envs/x") in asked("env", "list")["envs"]
    listed = [conda, "list", "--name", "x", "--show-channel-urls"]
    lines = subprocess.run(listed, env=user.env, capture_output=True, text=True, cwd="/").stdout.splitlines()
    assert lines[-1].split() == ["alpha", "1.0", "0", "defaults"]
    assert "+defaults/noarch::alpha-1.0-0" in (volume / "envs/x/conda-meta/history").read_text()
    before = user.condarc.read_text()
    asked("config", "--add", "channels", "other")  # what conda itself makes of the file is merged with as well
    assert only({"tasks": user.run(text)["tasks"][:1]})["status"] == "changed"
    assert asked("config", "--show", "channels")["channels"] == ["defaults", "other", "lab"]
    assert before != user.condarc.read_text()
