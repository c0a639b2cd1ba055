"""Secrets of AWS: the real ``aws`` command asks a real server, and nothing keeps what it says but the file that needs it."""

from __future__ import annotations

import json
import shutil
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from nbprovision.catalogue import Catalogue
from nbprovision.engine.session import Request, Session
from nbprovision.lint.subject import Playbook as Linted
from nbprovision.machine.machine import Machine
from nbprovision.model.errors import InvalidPlaybook, SecretUnavailable
from nbprovision.report.document import Silent, render
from nbprovision.system import secrets
from tests.support import moto_server

pytestmark = [pytest.mark.engine, moto_server.NEEDED]

PLAIN = "canary-of-secrets-manager-7716"
DOCUMENT = {"username": "reader-7716", "password": "pass/word-canary 7716"}
PARAMETER = "canary-of-ssm-7716"
VALUES = (PLAIN, DOCUMENT["password"], PARAMETER)


@pytest.fixture(scope="module")
def server() -> Iterator[str]:
    """moto's server, on a port of this machine."""
    with moto_server.serving() as address:
        yield address


class Cloud:
    """The account, as its owner sees it."""

    def __init__(self, env: dict[str, str]) -> None:
        self.env = env

    def aws(self, *words: str) -> None:
        subprocess.run([moto_server.AWS, *words], env=self.env, check=True, capture_output=True, timeout=60)


@pytest.fixture
def cloud(server: str, machine: Machine) -> Cloud:
    """With three values in it; the machine's own variables lead there."""
    moto_server.reset(server)
    machine.env.update(
        AWS_ENDPOINT_URL=server,
        AWS_ACCESS_KEY_ID="testing",
        AWS_SECRET_ACCESS_KEY="testing",
        AWS_DEFAULT_REGION="eu-west-1",
        PATH=f"{moto_server.AWS.parent}:{machine.env['PATH']}",
        NO_PROXY="127.0.0.1",
    )
    found = Cloud(dict(machine.env))
    found.aws("secretsmanager", "create-secret", "--name", "team/plain", "--secret-string", PLAIN)
    found.aws("secretsmanager", "create-secret", "--name", "team/db", "--secret-string", json.dumps(DOCUMENT))
    found.aws("ssm", "put-parameter", "--name", "/team/key", "--type", "SecureString", "--value", PARAMETER)
    return found


PLAYBOOK = """\
- tasks:
    - ensure_file:
        path: {place}
        mode: "0600"
        content: |
          {{{{ lookup('aws_secret', 'team/plain') }}}}
          {{{{ lookup('amazon.aws.aws_secret', 'team/db', key='password') }}}}
          {{{{ (lookup('aws_secret', 'team/db') | from_json).username }}}}
          {{{{ lookup('aws_ssm', '/team/key', region='eu-west-1') }}}}
"""


def play(machine: Machine, playbook: Path, *, check: bool = False) -> tuple[list[Any], str]:
    """The statuses, and the document of the run."""
    fresh = Machine(machine.env, home=machine.home, root=machine.root)
    results, document = Session(Request(playbook=playbook, check=check), fresh, Catalogue()).perform(
        Silent(), lambda _: None
    )
    assert all(result.error is None for result in results), results
    return [(result.status, result.proof) for result in results], render(document)


@pytest.fixture
def place(tmp_path: Path) -> Path:
    return tmp_path / "credentials"


@pytest.fixture
def playbook(tmp_path: Path, place: Path) -> Path:
    path = tmp_path / "play.yml"
    path.write_text(PLAYBOOK.format(place=place))
    return path


def kept(folder: Path) -> list[str]:
    """Files with one of the values in them, in whatever form it is looked for."""
    forms = {form for value in VALUES for form in secrets._notations(value)}
    return [
        str(path)
        for path in folder.rglob("*")
        if path.is_file() and any(form.encode() in path.read_bytes() for form in forms)
    ]


def test_a_run_asks_and_keeps_nothing(cloud: Cloud, machine: Machine, playbook: Path, place: Path) -> None:
    statuses, document = play(machine, playbook)
    assert statuses == [("changed", "check")]
    lines = [PLAIN, DOCUMENT["password"], DOCUMENT["username"], PARAMETER]
    assert place.read_text().splitlines() == lines
    assert not any(value in document for value in VALUES)
    assert kept(machine.home) == []
    assert secrets.mask(f"x {PLAIN} y {PARAMETER}") == "x **** y ****"


def test_a_value_is_a_witness_only_by_its_age(
    cloud: Cloud, machine: Machine, playbook: Path, place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The digest of a task does not turn on it; when its time is over, the task is looked at again."""
    play(machine, playbook)
    states = list((machine.home / "state").glob("*.state"))
    before = [line for line in states[0].read_text().splitlines() if line.startswith("task")]
    assert before[0].split("\t")[2] != "-"
    assert play(machine, playbook)[0] == [("ok", "witness")]
    cloud.aws(
        "secretsmanager", "put-secret-value", "--secret-id", "team/plain", "--secret-string", "another-canary-7716"
    )
    later = time.time() + 2 * 3600
    monkeypatch.setattr(time, "time", lambda: later)
    assert play(machine, playbook)[0] == [("changed", "check")]
    assert place.read_text().startswith("another-canary-7716\n")
    after = [line for line in states[0].read_text().splitlines() if line.startswith("task")]
    assert [line.split("\t")[1] for line in after] == [line.split("\t")[1] for line in before]


# What people make of a secret: a check does not know whether it can be done.
PARTS = """\
- vars:
    db: "{{{{ lookup('aws_secret', 'team/db') | from_json }}}}"
  tasks:
    - ensure_file:
        path: {place}
        content: |
          {{{{ lookup('aws_ssm', '/k') }}}}
          {{{{ lookup('aws_ssm', '/k') | b64decode }}}}
          {{{{ (lookup('aws_secret', 'team/db') | from_json).password }}}}
          {{{{ (lookup('aws_secret', 'team/db') | from_yaml)['users']['me'] | upper }}}}
          {{{{ db.username }}}}
          {{{{ lookup('aws_secret', 'team/db', key='password') }}}}
"""


def test_a_check_only_looks_for_the_command(machine: Machine, tmp_path: Path, place: Path) -> None:
    """No server answers here; a check without the command says so."""
    playbook = tmp_path / "play.yml"
    playbook.write_text(PARTS.format(place=place))
    folder = tmp_path / "bin"
    folder.mkdir()
    (folder / "aws").write_text("#!/bin/sh\ntouch " + str(tmp_path / "asked") + "\n")
    (folder / "aws").chmod(0o755)
    path = machine.env["PATH"]
    machine.env["PATH"] = f"{folder}:{path}"
    assert play(machine, playbook, check=True)[0] == [("changed", "check")]
    assert not (tmp_path / "asked").exists()
    if shutil.which("aws", path="/usr/local/bin:/usr/bin") is None:
        machine.env["PATH"] = "/usr/bin:/bin"
        with pytest.raises(SecretUnavailable, match="has no answer") as caught:
            play(machine, playbook, check=True)
        assert caught.value.exit_status == 2
        assert "the `aws` command is not on" in caught.value.cause
        said = Linted(playbook, Machine(machine.env, home=machine.home, root=machine.root), Catalogue(), {}).faults
        assert [type(fault) for fault in said] == [SecretUnavailable]


@pytest.mark.parametrize(
    ("lookup", "said"),
    [
        ("lookup('aws_secret', 'gone')", "correct its name, or the region"),
        ("lookup('aws_ssm', '/gone')", "correct its name, or the region"),
        ("lookup('aws_secret', 'team/db', key='pass')", "it has: username, password"),
        ("lookup('aws_secret', 'team/plain', key='pass')", "it is not a JSON object"),
        ("lookup('aws_secret', 'team/db', regio='x')", "did you mean 'region'"),
    ],
)
def test_what_cannot_be_had_is_said_with_its_place(
    cloud: Cloud, machine: Machine, tmp_path: Path, lookup: str, said: str
) -> None:
    playbook = tmp_path / "play.yml"
    playbook.write_text(f'- tasks:\n    - ensure_env_var: {{name: A, value: "{{{{ {lookup} }}}}"}}\n')
    with pytest.raises(InvalidPlaybook) as caught:
        play(machine, playbook)
    assert said in caught.value.text
    assert caught.value.position is not None
    assert caught.value.position.line == 2
    assert not any(value in caught.value.text for value in VALUES)
