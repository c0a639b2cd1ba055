"""`nb.tags`: the real ``aws`` command asks a real server, once a run and only if a template reads them."""

from __future__ import annotations

import http.server
import json
import subprocess
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from nbprovision.catalogue import Catalogue
from nbprovision.engine.session import Request, Session
from nbprovision.lint.subject import Playbook as Linted
from nbprovision.machine.machine import Machine
from nbprovision.model.errors import FactUnavailable
from nbprovision.report.document import Silent, render
from tests.machine.test_aws import Cloud, cloud, server
from tests.support import moto_server

__all__ = ["cloud", "server"]
pytestmark = [pytest.mark.engine, moto_server.NEEDED]
ARN = "arn:aws:sagemaker:eu-west-1:123456789012:notebook-instance/mine"
HOSTILE = "{{ lookup('env', 'HOME') }} $(touch ~/won) `touch ~/won`"
TAGS = {"team": "fraud", "hostile": HOSTILE, "api-token": "canary-of-a-tag"}


@pytest.fixture
def instance(cloud: Cloud, machine: Machine) -> Machine:
    """A notebook instance of the server's, with tags."""
    cloud.aws(
        "sagemaker", "create-notebook-instance", "--notebook-instance-name", "mine", "--instance-type", "ml.t3.medium",
        "--role-arn", "arn:aws:iam::123456789012:role/notebook",
        "--tags", *(json.dumps({"Key": key, "Value": value}) for key, value in TAGS.items()),
    )  # fmt: skip
    return known(machine)


def known(machine: Machine) -> Machine:
    """The machine with the platform's file, which names the instance."""
    folder = machine.root / "opt/ml/metadata"
    folder.mkdir(parents=True)
    (folder / "resource-metadata.json").write_text(json.dumps({"ResourceArn": ARN, "ResourceName": "mine"}))
    return machine


@pytest.fixture
def asks(machine: Machine, tmp_path: Path) -> Path:
    """A file with a line for each call of the ``aws`` command."""
    path = tmp_path / "asks"
    folder = tmp_path / "counting"
    folder.mkdir()
    (folder / "aws").write_text(f'#!/bin/sh\necho "$@" >> {path}\nexec {moto_server.AWS} "$@"\n')
    (folder / "aws").chmod(0o755)
    machine.env["PATH"] = f"{folder}:{machine.env['PATH']}"
    return path


def write(tmp_path: Path, *tasks: str) -> Path:
    path = tmp_path / "play.yml"
    path.write_text("- tasks:\n" + "".join(f"    - {task}\n" for task in tasks))
    return path


def play(machine: Machine, playbook: Path, *, check: bool = False) -> tuple[list[str], str, list[str]]:
    """The statuses, the document of the run, and what was announced."""
    fresh = Machine(machine.env, home=machine.home, root=machine.root)
    said: list[str] = []
    session = Session(Request(playbook=playbook, check=check), fresh, Catalogue())
    results, document = session.perform(Silent(), said.append)
    assert all(result.error is None for result in results), results
    return [f"{result.status} {result.proof}" for result in results], render(document), said


def test_a_tag_is_data(instance: Machine, asks: Path, tmp_path: Path, home: Path) -> None:
    playbook = write(
        tmp_path,
        "ensure_file: {path: ~/team, content: '{{ nb.tags.team }}'}",
        "ensure_file: {path: ~/hostile, content: '{{ nb.tags.hostile }}'}",
        "ensure_command: {shell: 'printf %s {{ nb.tags.hostile | quote }} > ~/quoted', creates: ~/quoted}",
        "{when: nb.tags.team == 'fraud', ensure_file: {path: ~/wanted, content: x}}",
        "ensure_file: {path: ~/other, content: \"{{ nb.tags.other | default('none') }}\"}",
    )
    statuses, document, said = play(instance, playbook)
    assert statuses == ["changed check"] * 5
    assert said == []
    assert (home / "team").read_text() == "fraud"
    assert (home / "hostile").read_text() == (home / "quoted").read_text() == HOSTILE
    assert (home / "other").read_text() == "none"
    assert not (home / "won").exists()
    assert len(asks.read_text().splitlines()) == 1  # for all templates of a run
    assert "canary" not in document


def test_nobody_asks_unless_a_template_does(instance: Machine, asks: Path, tmp_path: Path) -> None:
    play(instance, write(tmp_path, "ensure_file: {path: ~/x, content: '{{ nb.instance.name }}'}"))
    assert not asks.exists()


def test_a_tag_that_is_named_like_a_secret_is_masked(instance: Machine, tmp_path: Path, home: Path) -> None:
    playbook = write(tmp_path, "ensure_env_var: {name: A, value: \"{{ nb.tags['api-token'] }}\", where: shells}")
    _, document, _ = play(instance, playbook)
    assert "canary-of-a-tag" in (home / ".bashrc").read_text()
    assert "canary" not in document
    assert "****" in document
    assert not [path for path in instance.home.rglob("*") if path.is_file() and b"canary" in path.read_bytes()]


def test_tags_are_read_again_after_their_time(
    cloud: Cloud, instance: Machine, tmp_path: Path, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    playbook = write(tmp_path, "ensure_file: {path: ~/team, content: '{{ nb.tags.team }}'}")
    play(instance, playbook)
    assert play(instance, playbook)[0] == ["ok witness"]
    (state,) = (instance.home / "state").glob("*.state")
    until = next(line for line in state.read_text().splitlines() if line.startswith("until")).split("\t")[1]
    assert until == "-" or float(until) <= time.time() + 3600
    assert until != "-"
    cloud.aws("sagemaker", "add-tags", "--resource-arn", ARN, "--tags", "Key=team,Value=risk")
    later = time.time() + 2 * 3600
    monkeypatch.setattr(time, "time", lambda: later)
    assert play(instance, playbook)[0] == ["changed check"]
    assert (home / "team").read_text() == "risk"


def test_a_check_and_lint_ask_nobody_and_say_so(machine: Machine, asks: Path, tmp_path: Path) -> None:
    playbook = write(
        tmp_path,
        "ensure_file: {path: ~/team, content: \"{{ nb.tags.team }} {{ nb.tags.get('x') }} {{ (nb.tags.a | from_json).b }}\"}",
        "{when: nb.tags.team == 'fraud', ensure_file: {path: ~/wanted, content: x}}",
        "{when: \"'team' in nb.tags\", ensure_file: {path: ~/tagged, content: x}}",
    )
    known(machine)
    statuses, _, said = play(machine, playbook, check=True)
    assert statuses == ["changed check", "skipped check", "changed check"]
    assert said == ["warning: a check does not ask AWS for nb.tags, so a condition on it may hold only in a run"]
    assert Linted(playbook, Machine(machine.env, home=machine.home, root=machine.root), Catalogue(), {}).faults == []
    assert not asks.exists()


def test_a_machine_that_aws_does_not_know_has_no_tags(machine: Machine, asks: Path, tmp_path: Path, home: Path) -> None:
    play(machine, write(tmp_path, "ensure_file: {path: ~/team, content: \"{{ nb.tags.team | default('none') }}\"}"))
    assert (home / "team").read_text() == "none"
    assert not asks.exists()


@pytest.fixture
def refusing(machine: Machine) -> Iterator[Machine]:
    """A server that refuses each request as AWS does."""

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            self.rfile.read(int(self.headers["Content-Length"]))
            error = {
                "__type": "AccessDeniedException",
                "message": "User is not authorized to perform: sagemaker:ListTags",
            }
            body = json.dumps(error).encode()
            self.send_response(400)
            self.send_header("Content-Type", "application/x-amz-json-1.1")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as made:
        threading.Thread(target=made.serve_forever, daemon=True).start()
        machine.env.update(
            AWS_ENDPOINT_URL=f"http://127.0.0.1:{made.server_port}", AWS_ACCESS_KEY_ID="x", AWS_SECRET_ACCESS_KEY="x",
            PATH=f"{moto_server.AWS.parent}:{machine.env['PATH']}", NO_PROXY="127.0.0.1",
        )  # fmt: skip
        yield known(machine)
        made.shutdown()


def test_a_refusal_names_the_right_and_the_place(refusing: Machine, tmp_path: Path) -> None:
    playbook = write(tmp_path, "ensure_file: {path: ~/team, content: '{{ nb.tags.team }}'}")
    with pytest.raises(FactUnavailable, match=r"nb\.tags") as caught:
        play(refusing, playbook)
    assert "AccessDenied" in caught.value.cause
    assert "sagemaker:ListTags" in caught.value.cure
    assert caught.value.exit_status == 2
    assert caught.value.position is not None
    assert caught.value.position.line == 2


def test_a_missing_command_is_an_error_with_its_fix(machine: Machine, tmp_path: Path) -> None:
    known(machine)
    done = subprocess.run(["which", "aws"], env={"PATH": machine.env["PATH"]}, capture_output=True, check=False)
    if done.returncode == 0:
        pytest.skip("this machine has the command in a usual folder")
    with pytest.raises(FactUnavailable) as caught:
        play(machine, write(tmp_path, "ensure_file: {path: ~/team, content: '{{ nb.tags.team }}'}"))
    assert "the `aws` command is not on the PATH" in caught.value.cause
    assert "install it" in caught.value.cure


def test_an_answer_of_another_form_is_an_error(machine: Machine, tmp_path: Path) -> None:
    known(machine)
    folder = tmp_path / "bin"
    folder.mkdir()
    (folder / "aws").write_text("#!/bin/sh\necho '[1]'\n")
    (folder / "aws").chmod(0o755)
    machine.env["PATH"] = f"{folder}:{machine.env['PATH']}"
    with pytest.raises(FactUnavailable) as caught:
        play(machine, write(tmp_path, "ensure_file: {path: ~/team, content: '{{ nb.tags.team }}'}"))
    assert "not a list of tags" in caught.value.cause
    assert "aws sagemaker list-tags" in caught.value.cure
