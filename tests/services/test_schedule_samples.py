"""The samples with a schedule, and the notebook at each start: what their commands leave, by real programs."""

from __future__ import annotations

import json
import shlex
import sqlite3
import subprocess
import sys
from pathlib import Path
from typing import Any

from nbprovision.catalogue import Catalogue
from nbprovision.cli.lint import assumed
from nbprovision.engine.session import Request, Session
from nbprovision.files.command_record import in_background
from nbprovision.lifecycle.playbook import root_calls
from nbprovision.machine.machine import Machine
from nbprovision.report.document import Silent
from nbprovision.root import schedule
from nbprovision.services.ensure_schedule import RUNNER, EnsureSchedule
from tests.machine.test_aws import Cloud, cloud, server
from tests.support import moto_server
from tests.support.at_work import until

__all__ = ["cloud", "server"]
SAMPLES = Path(__file__).parents[2] / "playbooks/samples"


def schedule_of(name: str, **variables: Any) -> EnsureSchedule:
    machine = assumed("notebook-instance", {}, Path("/"))
    (call,) = root_calls(SAMPLES / name, machine, Catalogue(), variables)
    assert isinstance(call.task, EnsureSchedule)
    return call.task


def run(task: EnsureSchedule, machine: Machine) -> dict[str, Any]:
    """Run its script as the service does; the record, with the log."""
    script = machine.home / "script"
    script.parent.mkdir(exist_ok=True)
    script.write_text(schedule.script(dict(task.wanted_of(machine)), shlex.quote(str(RUNNER))))
    subprocess.run(["/bin/sh", str(script)], env=machine.env, cwd="/", timeout=120)
    folder = machine.home / "schedules"
    record: dict[str, Any] = json.loads((folder / f"{task.name}.json").read_text())
    return {**record, "log": (folder / f"{task.name}.log").read_text()}


@moto_server.NEEDED
def test_the_history_of_the_notebooks(cloud: Cloud, machine: Machine, tmp_path: Path) -> None:
    """SQLite itself reads what S3 then has; a foreign bucket gets nothing, and a link uploads nothing of others."""
    cloud.aws("s3api", "create-bucket", "--bucket", "team-bucket", "--region", "us-east-1")
    task = schedule_of("notebook-history-s3.yml", bucket="team-bucket", account="123456789012", every="15m")
    assert task.every == "15m"
    assert run(task, machine)["status"] == 0  # nothing was typed yet
    history = Path(machine.env["HOME"], ".ipython/profile_default/history.sqlite")
    history.parent.mkdir(parents=True)
    writing = sqlite3.connect(history)
    writing.execute("pragma journal_mode=wal")
    writing.execute("create table history (source_raw)")
    writing.execute("insert into history values ('1 + 1')")
    writing.commit()  # still in the journal beside the file
    done = run(task, machine)
    assert done["status"] == 0, done["log"]
    copy = tmp_path / "copy.sqlite"
    cloud.aws(
        "s3api", "get-object", "--bucket", "team-bucket", "--key", "notebook-history/notebook/history.sqlite", str(copy)
    )
    assert sqlite3.connect(copy).execute("select * from history").fetchall() == [("1 + 1",)]
    writing.close()
    assert '--expected-bucket-owner "$ACCOUNT"' in (task.shell or "")  # moto's server does not look at it


JUPYTER = """\
#!/bin/sh
echo "$CONDA_DEFAULT_ENV$VIRTUAL_ENV $*" >>~/calls
"""


def test_a_notebook_runs_at_each_start(env: dict[str, str], home: Path) -> None:
    """Once, in its environment; a second run of the playbook does not repeat it. `jupyter` is a stand-in."""
    prefix = home / "fraud"
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", prefix], check=True)
    (prefix / "bin/jupyter").write_text(JUPYTER)
    (prefix / "bin/jupyter").chmod(0o755)

    def play() -> list[str]:
        variables = {"notebook": str(home / "report.ipynb"), "env": str(prefix)}
        request = Request(
            playbook=SAMPLES / "execute-notebook-on-startup.yml", extra_vars=variables, selection=(str(variables),)
        )
        results, _ = Session(request, Machine(env), Catalogue()).perform(Silent(), lambda _text: None)
        return [result.status for result in results]

    assert play() == ["changed"]
    tool = Machine(env).home
    until(lambda: in_background(tool)[0].state != "running")
    (command,) = in_background(tool)
    assert command.state == "ok", Path(command.log).read_text()
    assert play() == ["ok"]
    (call,) = (home / "calls").read_text().splitlines()
    words = "nbconvert --to notebook --execute --inplace --ExecutePreprocessor.timeout=-1"
    assert call == f"{prefix} {words} {home}/report.ipynb"
