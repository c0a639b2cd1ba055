"""An index at CodeArtifact, through a playbook: the token had, used by both engines, renewed in time, shown nowhere.

AWS cannot be had here; what stands in its place is in `tests.support.codeartifact`.
"""

from __future__ import annotations

import json
import os
import stat
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from nbprovision.indexes.codeartifact import CodeArtifact, repository, token_record
from nbprovision.indexes.ensure_pip_index import EnsurePipIndex
from nbprovision.machine.machine import Machine
from nbprovision.machine.platform import Platform
from nbprovision.model.errors import ParameterError, TaskFailed
from tests.support.codeartifact import aws_command, page, serving
from tests.support.driver import planned
from tests.support.wheels import make_wheel

pytestmark = [pytest.mark.engine, pytest.mark.proof, pytest.mark.sampled(2)]

ROOT = Path(__file__).parents[2]
# Arguments and environment of every process that Python starts, as `ps` would show the first of the two.
COUNTER = """\
import os, sys
def hook(event, args, path=os.environ.get("STARTED_PROCESSES")):
    if path and event in ("subprocess.Popen", "os.posix_spawn", "os.exec"):
        with open(path, "a") as stream:
            stream.write(f"{event} {args[:2]}\\n")
sys.addaudithook(hook)
"""
DENIED = (
    "An error occurred (AccessDeniedException) when calling the GetAuthorizationToken operation: User: "
    "arn:aws:sts::111122223333:assumed-role/r/SageMaker is not authorized to perform: codeartifact:GetAuthorizationToken"
)


class Team:
    """A team whose packages come from CodeArtifact."""

    def __init__(self, env: dict[str, str], folder: Path, accepted: set[str], endpoint: str) -> None:
        self.folder, self.accepted, self.endpoint = folder, accepted, endpoint
        self.bin = folder / "bin"
        self.bin.mkdir()
        self.aws = aws_command(self.bin, folder)
        (folder / "counter").mkdir()
        (folder / "counter/sitecustomize.py").write_text(COUNTER)
        self.home = Path(env["HOME"])
        self.tool = Path(env["NBPROVISION_HOME"])
        self.pip_conf = self.home / ".config/pip/pip.conf"
        (folder / "xdg").mkdir()
        kept = {name: value for name, value in env.items() if not name.startswith(("PIP_", "UV_"))}
        self.env = {
            **kept,
            "PATH": f"{self.bin}{os.pathsep}{env['PATH']}",
            "XDG_CONFIG_DIRS": str(folder / "xdg"),
            "UV_CACHE_DIR": str(folder / "uv-cache"),
            "NO_PROXY": "127.0.0.1",
            "AWS_REGION": "eu-west-1",
            "PYTHONPATH": f"{ROOT}{os.pathsep}{folder / 'counter'}",
            "STARTED_PROCESSES": str(folder / "started"),
        }
        self.prefix = folder / "venv"
        subprocess.run([sys.executable, "-m", "venv", str(self.prefix)], check=True)

    def answers(self, token: str = "", *, version: int = 2, fail: str = "") -> None:
        answer = {"fail": fail} if fail else {"token": token, "version": version}
        (self.folder / "answer").write_text(json.dumps(answer))
        if token:
            self.accepted.add(token)

    def calls(self) -> list[list[str]]:
        path = self.folder / "calls"
        return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []

    def playbook(self, *packages: str, engine: str = "uv", **more: Any) -> str:
        asked = {"domain": "acme", "owner": "111122223333", "repository": "team", "endpoint": self.endpoint}
        tasks: list[dict[str, Any]] = [{"name": "Index", "ensure_pip_index": {"codeartifact": {**asked, **more}}}]
        if packages:
            pip = {"env": str(self.prefix), "packages": list(packages), "engine": engine}
            tasks.append({"name": "Packages", "ensure_pip_pkg": pip})
        return json.dumps([{"tasks": tasks}])  # JSON is YAML

    def run(self, text: str, *words: str, status: int = 0) -> Any:
        path = self.folder / "playbook.yml"
        path.write_text(text)
        argv = [sys.executable, "-m", "nbprovision", "run", str(path), "--format", "json", *words]
        done = subprocess.run(argv, env=self.env, capture_output=True, text=True, cwd="/", timeout=300)
        assert done.returncode == status, done.stdout + done.stderr
        return json.loads(done.stdout) if done.stdout else done.stderr

    def age(self, seconds: float) -> None:
        """Let time pass for the token."""
        record = json.loads(token_record(self.pip_conf).read_text())
        record["issued"] -= seconds
        record["expires"] -= seconds
        token_record(self.pip_conf).write_text(json.dumps(record))


@pytest.fixture
def team(env: dict[str, str], tmp_path: Path) -> Iterator[Team]:
    """An index that asks for a token that was given out; it has tiny in two versions."""
    folder = tmp_path / "served/pypi/team/simple"
    accepted: set[str] = set()
    with serving(tmp_path / "served", accepted) as endpoint:
        page(folder, "tiny", [make_wheel(folder / "tiny", "tiny", version) for version in ("1.0", "2.0")])
        yield Team(env, tmp_path, accepted, endpoint)


def everything_written(team: Team) -> str:
    """State, log, last run, results, and what the processes were called with; not the configuration itself."""
    files = [path for path in team.tool.rglob("*") if path.is_file()] + [team.folder / "started", team.folder / "calls"]
    return "".join(path.read_text(errors="replace") for path in files if path.exists())


@pytest.mark.parametrize(("engine", "version"), [("uv", 2), ("pip", 1)])
def test_both_engines_install_with_a_token(team: Team, engine: str, version: int) -> None:
    token = "t0ken+first/x=="
    team.answers(token, version=version)
    text = team.playbook("tiny==1.0", engine=engine, duration="1h")
    would = team.run(text, "--check", status=0)
    assert [task["status"] for task in would["tasks"]] == ["changed", "changed"]
    assert team.calls() == []
    assert not team.pip_conf.exists()
    told = team.run(text, "--diff")
    assert told["counts"]["changed"] == 2, told
    assert told["tasks"][0]["changes"] == would["tasks"][0]["changes"]
    assert team.calls() == [
        [
            "codeartifact",
            "get-authorization-token",
            "--domain",
            "acme",
            "--domain-owner",
            "111122223333",
            "--region",
            "eu-west-1",
            "--duration-seconds",
            "3600",
            "--output",
            "json",
        ]
    ]
    for path in (team.pip_conf, token_record(team.pip_conf), team.home / ".config/uv/uv.toml"):
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert "t0ken%2Bfirst%2Fx%3D%3D" in team.pip_conf.read_text()
    for word in (token, "t0ken%2Bfirst"):
        assert word not in json.dumps(told) + everything_written(team) + token_record(team.pip_conf).read_text()
    assert team.run(text)["counts"] == {"ok": 2, "changed": 0, "skipped": 0, "failed": 0, "deferred": 0}
    assert {task["proof"] for task in team.run(text)["tasks"]} == {"witness"}
    assert len(team.calls()) == 1


def test_past_half_its_life_a_token_is_renewed_and_that_is_no_change(team: Team) -> None:
    team.answers("t0ken-first")
    text = team.playbook()
    team.run(text)
    (state,) = (team.tool / "state").glob("*.state")
    until = float(next(line for line in state.read_text().splitlines() if line.startswith("until\t")).split("\t")[1])
    assert abs(until - time.time() - 6 * 3600) < 600  # the start-up path itself goes on from there
    team.answers("t0ken-second")
    team.age(5 * 3600)
    assert team.run(text)["tasks"][0]["status"] == "ok"
    assert "t0ken-first" in team.pip_conf.read_text()
    team.age(1.5 * 3600)
    checked = team.run(text, "--check", "--exit-code")
    assert checked["tasks"][0]["status"] == "ok"
    assert len(team.calls()) == 1
    renewed = team.run(text)
    assert (renewed["tasks"][0]["status"], renewed["tasks"][0]["changes"]) == ("ok", [])
    assert "t0ken-second" in team.pip_conf.read_text()
    assert "t0ken-second" in (team.home / ".config/uv/uv.toml").read_text()
    assert stat.S_IMODE(team.pip_conf.stat().st_mode) == 0o600
    assert team.run(text)["tasks"][0]["proof"] == "witness"
    assert len(team.calls()) == 2
    assert "t0ken-" not in json.dumps(renewed) + everything_written(team)


def test_after_a_restart_both_are_put_back(team: Team) -> None:
    team.answers("t0ken-first")
    team.run(team.playbook())
    for path in team.pip_conf.parent.iterdir():
        path.unlink()
    team.answers("t0ken-second")
    assert team.run(team.playbook())["tasks"][0]["status"] == "changed"
    assert "t0ken-second" in team.pip_conf.read_text()


def test_a_token_that_somebody_else_has_put_there_is_of_unknown_age(team: Team) -> None:
    """`aws codeartifact login` writes to the same file."""
    team.answers("t0ken-first")
    team.run(team.playbook())
    team.pip_conf.write_text(team.pip_conf.read_text().replace("t0ken-first", "t0ken-other"))
    team.answers("t0ken-second")
    assert team.run(team.playbook())["tasks"][0]["status"] == "ok"
    assert "t0ken-second" in team.pip_conf.read_text()


def test_where_aws_does_not_answer_a_token_that_holds_is_kept(team: Team) -> None:
    team.answers("t0ken-first")
    text = team.playbook()
    team.run(text)
    team.age(7 * 3600)
    before = team.pip_conf.read_text()
    team.answers(fail=DENIED)
    (task,) = team.run(text)["tasks"]
    assert task["status"] == "ok"
    assert "the present token is kept" in task["warnings"][0]
    assert "sts:GetServiceBearerToken" in task["warnings"][0]
    assert team.pip_conf.read_text() == before
    team.run(text)
    assert len(team.calls()) == 3, "each run asks again"
    team.age(6 * 3600)  # now it has ended
    (task,) = team.run(text, status=2)["tasks"]
    assert "AccessDenied" in task["error"]["message"]


FAILURES = {
    "not allowed": (DENIED, "codeartifact:GetAuthorizationToken on the domain"),
    "no role": ('Unable to locate credentials. You can configure credentials by running "aws configure".', "aws sts get-caller-identity"),
    "a wrong domain": ("An error occurred (ResourceNotFoundException) when calling the GetAuthorizationToken operation: Domain not found.", "correct `domain`"),
    "no way": ('Could not connect to the endpoint URL: "https://codeartifact.eu-west-1.amazonaws.com/v1/authorization-token"', "com.amazonaws.REGION.codeartifact.api"),
    "too old": ("aws: error: argument command: Invalid choice, valid choices are: ...", "too old"),
}  # fmt: skip


@pytest.mark.parametrize("name", FAILURES)
def test_what_aws_refuses_is_told_with_what_to_do(team: Team, name: str) -> None:
    said, cure = FAILURES[name]
    team.answers(fail=said)
    (task,) = team.run(team.playbook(), status=2)["tasks"]
    assert "CodeArtifact's domain 'acme' (eu-west-1)" in task["error"]["message"]
    assert cure in task["error"]["message"]
    assert task["error"]["line"]
    assert not team.pip_conf.exists()
    assert not token_record(team.pip_conf).exists()


def test_without_the_command(team: Team) -> None:
    team.aws.unlink()
    if any(os.access(f"{folder}/aws", os.X_OK) for folder in ("/usr/bin", "/usr/local/bin")):
        pytest.skip("this machine has an aws command")
    for words in (["--check"], []):
        (task,) = team.run(team.playbook(), *words, status=2)["tasks"]
        assert "the `aws` command is not on the PATH" in task["error"]["message"]


def test_the_command_is_what_a_task_before_makes(team: Team) -> None:
    if any(os.access(f"{folder}/aws", os.X_OK) for folder in ("/usr/bin", "/usr/local/bin")):
        pytest.skip("this machine has an aws command")
    to_come = team.aws.rename(team.folder / "aws-to-come")
    team.answers("t0ken-later")
    (play,) = json.loads(team.playbook())
    install = {"argv": ["cp", str(to_come), str(team.aws)], "creates": str(team.aws)}
    play["tasks"].insert(0, {"ensure_command": install})
    for words in (["--check"], []):
        document = team.run(json.dumps([play]), *words)
        assert [task["status"] for task in document["tasks"]] == ["changed", "changed"]


def test_without_a_region(team: Team) -> None:
    del team.env["AWS_REGION"]
    (task,) = team.run(team.playbook(), status=2)["tasks"]
    assert "the region of CodeArtifact's domain 'acme' is not known" in task["error"]["message"]
    assert "codeartifact: {..., region: ...}" in task["error"]["message"]


def test_an_answer_that_is_none_is_not_shown(team: Team) -> None:
    team.aws.write_text('#!/bin/sh\necho \'{"authorizationToken": "t0ken-torn\'\n')
    (task,) = team.run(team.playbook(), status=2)["tasks"]
    assert "an unknown answer" in task["error"]["message"]
    assert "t0ken-torn" not in json.dumps(task) + everything_written(team)


def test_a_command_that_hangs_is_ended(team: Team, monkeypatch: pytest.MonkeyPatch) -> None:
    team.aws.write_text("#!/bin/sh\nexec sleep 100\n")
    monkeypatch.setattr("nbprovision.machine.aws._TIMEOUT", 0.3)
    machine = Machine(team.env)
    asked = CodeArtifact(domain="acme", repository="team", owner="111122223333", endpoint=team.endpoint)
    task = EnsurePipIndex(codeartifact=asked)
    with pytest.raises(TaskFailed, match="cannot get a token") as caught:
        task.apply(task.plan(task.read(machine)), machine)
    assert "interface endpoints" in caught.value.cure


def test_absent_takes_the_token_away(team: Team) -> None:
    team.pip_conf.parent.mkdir(parents=True)
    team.pip_conf.write_text("[global]\ntimeout = 60\n")
    team.answers("t0ken-first")
    text = team.playbook()
    team.run(text)
    document = json.loads(text)
    document[0]["tasks"][0]["ensure_pip_index"]["state"] = "absent"
    assert team.run(json.dumps(document))["tasks"][0]["status"] == "changed"
    assert team.pip_conf.read_text() == "[global]\ntimeout = 60\n"
    assert [path.name for path in team.pip_conf.parent.iterdir()] == ["pip.conf"]
    assert team.run(json.dumps(document))["tasks"][0]["status"] == "ok"


# --------------------------------------------------------------------------------------- what can be known before

ASKED = {"domain": "acme", "repository": "team"}


@pytest.mark.parametrize(
    ("parameters", "key"),
    [
        ({"url": "https://x/simple", "codeartifact": CodeArtifact(**ASKED)}, "codeartifact"),
        ({"codeartifact": CodeArtifact(**ASKED, duration="13h")}, "codeartifact"),
        ({"codeartifact": CodeArtifact(**ASKED, duration="5m")}, "codeartifact"),
        ({"codeartifact": CodeArtifact(**ASKED), "scope": "system"}, "url"),
        ({"codeartifact": CodeArtifact(**ASKED), "scope": "env", "env": "x"}, "url"),
    ],
)
def test_what_makes_no_sense_is_refused(parameters: dict[str, Any], key: str) -> None:
    with pytest.raises(ParameterError) as caught:
        EnsurePipIndex(**parameters)
    assert caught.value.key == key


@pytest.mark.parametrize(
    "wrong", [{"owner": "1"}, {"domain": "-x"}, {"region": "nowhere"}, {"token": "x"}, {"endpoint": "https://a:b@c"}]
)  # fmt: skip
def test_a_playbook_with_a_wrong_repository_is_invalid(team: Team, wrong: dict[str, Any]) -> None:
    assert "codeartifact" in team.run(team.playbook(**wrong), status=4)
    assert team.calls() == []


def test_a_token_stays_off_the_volume(team: Team) -> None:
    team.answers("t0ken-first")
    machine = Machine({**team.env, "XDG_CONFIG_HOME": str(team.folder / "volume/config")})
    machine.__dict__["platform"] = Platform("notebook-instance", "a test", team.folder / "volume")
    asked = CodeArtifact(domain="acme", repository="team", owner="111122223333", endpoint=team.endpoint)
    with pytest.raises(TaskFailed, match="cannot be written"):
        planned(EnsurePipIndex(codeartifact=asked), machine)
    assert team.calls() == []


def test_region_and_owner_of_the_instance(tmp_path: Path) -> None:
    metadata = tmp_path / "opt/ml/metadata/resource-metadata.json"
    metadata.parent.mkdir(parents=True)
    arn = "arn:aws:sagemaker:us-west-2:012345678901:notebook-instance/mine"
    metadata.write_text(json.dumps({"ResourceArn": arn, "ResourceName": "mine"}))
    found = repository(CodeArtifact(domain="acme", repository="team"), {}, tmp_path)
    assert found.url == "https://acme-012345678901.d.codeartifact.us-west-2.amazonaws.com/pypi/team/simple/"
    assert found.with_token("a/b") == found.url.replace("://", "://aws:a%2Fb@")
    vpc = CodeArtifact(
        domain="acme",
        repository="team",
        endpoint="https://vpce-1.d.codeartifact.us-west-2.vpce.amazonaws.com/d/acme-012345678901/",
    )
    url = repository(vpc, {"AWS_REGION": "us-west-2"}, tmp_path).url
    assert url == "https://vpce-1.d.codeartifact.us-west-2.vpce.amazonaws.com/d/acme-012345678901/pypi/team/simple/"
