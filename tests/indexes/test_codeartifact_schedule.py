"""CodeArtifact's token between two runs: the sample's schedule renews it, by the command that it gives to the timer.

AWS cannot be had here; what stands in its place is in `tests.support.codeartifact`. The timer is systemd's
(tests/container/test_root_schedule.py); here its script is run as the service runs it.
"""

from __future__ import annotations

import json
import os
import shlex
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from nbprovision.catalogue import Catalogue
from nbprovision.cli.lint import assumed
from nbprovision.lifecycle.playbook import root_calls
from nbprovision.root import schedule
from nbprovision.services.ensure_schedule import RUNNER, EnsureSchedule
from tests.indexes.test_codeartifact import Team
from tests.support.codeartifact import page, serving
from tests.support.wheels import make_wheel

pytestmark = [pytest.mark.engine, pytest.mark.proof]
ROOT = Path(__file__).parents[2]


@pytest.fixture
def team(env: dict[str, str], tmp_path: Path) -> Iterator[Team]:
    accepted: set[str] = set()
    folder = tmp_path / "served/pypi/team/simple"
    with serving(tmp_path / "served", accepted) as endpoint:
        page(folder, "tiny", [make_wheel(folder / "tiny", "tiny", "1.0")])
        yield Team(env, tmp_path, accepted, endpoint)


def test_the_samples_schedule_renews_the_token(team: Team) -> None:
    where = {
        "domain": "acme",
        "owner": "111122223333",
        "repository": "team",
        "region": "eu-west-1",
        "endpoint": team.endpoint,
    }
    sample = ROOT / "playbooks/samples/codeartifact-token.yml"
    machine = assumed("notebook-instance", {}, Path("/"))
    (call,) = root_calls(sample, machine, Catalogue(), {"source": where})
    task = call.task
    assert isinstance(task, EnsureSchedule)
    # The tool as the script finds it: the command in its home folder.
    (team.tool / "bin").mkdir(parents=True)
    command = team.tool / "bin/nbprovision"
    command.write_text(f'#!/bin/sh\nexec {shlex.quote(sys.executable)} -m nbprovision "$@"\n')
    command.chmod(0o755)
    script = team.folder / "script"
    script.write_text(schedule.script({**task.wanted(), "home": str(team.tool)}, shlex.quote(str(RUNNER))))

    team.answers("first-token-of-acme")
    team.run(team.playbook("tiny", region="eu-west-1"))
    calls = len(team.calls())

    def renewed() -> str:
        done = subprocess.run(["/bin/sh", str(script), "now"], env=team.env, cwd="/", timeout=120)
        record = json.loads((team.tool / "schedules/codeartifact-token.json").read_text())
        log = (team.tool / "schedules/codeartifact-token.log").read_text()
        assert (done.returncode, record["status"]) == (0, 0), log
        assert "token-of-acme" not in log
        return team.pip_conf.read_text()

    assert "first-token-of-acme" in renewed()
    assert len(team.calls()) == calls  # it is fresh, and AWS is not asked
    team.age(7 * 3600)
    team.answers("second-token-of-acme")
    text = renewed()
    assert "second-token-of-acme" in text
    assert "first-token-of-acme" not in text
    assert os.stat(team.pip_conf).st_mode & 0o777 == 0o600
    told = team.run(team.playbook("tiny", region="eu-west-1"))  # the next run accepts it
    assert [task["status"] for task in told["tasks"]] == ["ok", "ok"]
