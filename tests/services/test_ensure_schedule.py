"""``ensure_schedule``: what root is handed, what a run compares, and the script that runs the command as the user."""

from __future__ import annotations

import json
import os
import shlex
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from nbprovision.engine.guard import Guard
from nbprovision.engine.step import Step, carry_out
from nbprovision.machine.machine import Machine
from nbprovision.model.errors import ParameterError
from nbprovision.model.result import Result
from nbprovision.root import schedule
from nbprovision.services.ensure_schedule import RUNNER, EnsureSchedule
from nbprovision.services.schedule_record import schedules
from tests.support.at_work import until


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    """A machine whose root folder is the test's."""
    (tmp_path / "root").mkdir()
    (tmp_path / "user").mkdir()
    env = {"HOME": str(tmp_path / "user"), "PATH": "/usr/bin:/bin", "NBPROVISION_HOME": str(tmp_path / "home")}
    return Machine(env, root=tmp_path / "root")


def task(**parameters: Any) -> EnsureSchedule:
    command = {} if parameters.keys() & {"argv", "shell"} or parameters.get("state") else {"argv": ["/bin/true"]}
    when = {} if parameters.keys() & {"every", "at"} or parameters.get("state") else {"every": "1h"}
    return EnsureSchedule(**{"name": "report", **command, **when, **parameters})


def brought_about(task: EnsureSchedule, machine: Machine) -> None:
    """What root's part leaves: the files, and the link that enables the timer."""
    wanted = dict(task.wanted_of(machine))
    for path, text in schedule._files(wanted).items():
        place = machine.root / path[1:]
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_text(text)
    wants = machine.root / "etc/systemd/system/timers.target.wants"
    wants.mkdir(exist_ok=True)
    (wants / f"{schedule.unit(wanted)}.timer").symlink_to(f"../{schedule.unit(wanted)}.timer")


def carried_out(task: EnsureSchedule, machine: Machine, *, check: bool = False) -> Result:
    return carry_out(Step(name="x", kind=task.kind(), task=task), machine, Guard([task], machine), check=check).result


@pytest.mark.parametrize(
    ("parameters", "key"),
    [
        ({"name": "../etc"}, "name"), ({"name": "a b"}, "name"), ({"name": "A"}, "name"), ({"name": "-o"}, "name"), ({"name": ""}, "name"),
        ({"name": "a\n[Service]\nUser=root"}, "name"), ({"name": "a%n"}, "name"), ({"name": "a.service"}, "name"), ({"name": "a" * 50}, "name"),
        ({"at": "08:30\nUnit=x"}, "at"), ({"at": "%H:00"}, "at"), ({"at": "*-02-30 00:00"}, "at"), ({"at": "hourly "}, "at"),
        ({"every": "10s"}, "every"), ({"every": "1000d"}, "every"), ({"timeout": "0s"}, "timeout"), ({"timeout": "8d"}, "timeout"),
        ({"env": "../x"}, "env"), ({"env": "/a/../b"}, "env"), ({"env": "a b"}, "env"), ({"env": "-x"}, "env"), ({"env": "/a\nb"}, "env"), ({"env": "x/y"}, "env"),
        ({"environment": {"A B": "x"}}, "environment"), ({"environment": {"A=B": "x"}}, "environment"), ({"environment": {"": "x"}}, "environment"),
        ({"environment": {"A;id": "x"}}, "environment"), ({"environment": {"A": "\0"}}, "environment"),
        ({"argv": []}, "argv"), ({"argv": ["~/x"]}, "argv"), ({"argv": ["-x"]}, "argv"), ({"argv": ["A=b", "x"]}, "argv"), ({"argv": ["a\0"]}, "argv"),
        ({"shell": " "}, "shell"), ({"shell": "a\udcff"}, "shell"),
    ],
)  # fmt: skip
def test_what_could_become_roots_is_refused(parameters: dict[str, Any], key: str) -> None:
    with pytest.raises(ParameterError) as caught:
        task(**parameters)
    assert caught.value.key == key


@pytest.mark.parametrize(
    "parameters",
    [
        {"argv": ["a"], "shell": "b", "every": "1h"}, {"shell": "b", "every": "1h", "at": "daily"}, {"shell": "b"},
        {"every": "1h"}, {"state": "absent", "shell": "b"}, {"state": "absent", "at": "daily"},
    ],
)  # fmt: skip
def test_what_goes_together(parameters: dict[str, Any]) -> None:
    with pytest.raises(ParameterError):
        EnsureSchedule(name="x", **parameters)


class TestTheUnits:
    def test_nothing_of_the_command_is_in_them(self) -> None:
        """systemd would expand % and $, and read a line of its own."""
        wanted = dict(
            task(shell="evil % $HOME\nExecStart=/bin/evil", environment={"EVIL": "%n\nUser=root"}, env="evil").wanted()
        )
        for text in (schedule._service(wanted), schedule._timer(wanted)):
            assert "evil" not in text.lower()
            assert "%" not in text
        assert "User=ec2-user\n" in schedule._service(wanted)
        assert "ExecStart=/bin/sh /etc/nbprovision/schedules/report\n" in schedule._service(wanted)
        assert "/home/ec2-user" not in schedule._service(wanted).replace("Environment=HOME=/home/ec2-user", "")

    @pytest.mark.parametrize(
        ("parameters", "lines"),
        [
            ({"every": "8h"}, {"OnUnitActiveSec=28800", "OnActiveSec=28800"}),
            ({"every": "8h", "missed": True}, {"OnUnitActiveSec=2880", "OnActiveSec=30"}),
            ({"every": "1m", "missed": True}, {"OnUnitActiveSec=60", "OnActiveSec=30"}),
            ({"at": "Mon..Fri 08:30"}, {"OnCalendar=Mon..Fri 08:30"}),
            ({"at": "daily", "missed": True}, {"OnCalendar=daily", "OnActiveSec=30"}),
        ],
    )
    def test_the_timer(self, parameters: dict[str, Any], lines: set[str]) -> None:
        text = schedule._timer(dict(task(**parameters).wanted()))
        assert {line for line in text.splitlines() if line.startswith("On")} == lines

    @pytest.mark.skipif(not shutil.which("systemd-analyze"), reason="there is no systemd-analyze")
    def test_systemd_finds_nothing_in_them(self, tmp_path: Path) -> None:
        wanted = dict(task(at="Mon..Fri 08:30", missed=True).wanted())
        names = [f"nbprovision-schedule-report.{ending}" for ending in ("service", "timer")]
        for name, text in zip(names, (schedule._service(wanted), schedule._timer(wanted)), strict=True):
            (tmp_path / name).write_text(text.replace("User=ec2-user", "User=daemon"))
        done = subprocess.run(
            ["systemd-analyze", "verify", "--man=no", *(str(tmp_path / name) for name in names)],
            capture_output=True, text=True,
        )  # fmt: skip
        assert [line for line in done.stderr.splitlines() if "schedule-report" in line] == []


class TestARun:
    def test_drift_is_skipped_with_its_reason(self, machine: Machine) -> None:
        result = carried_out(task(), machine)
        assert result.status == "skipped"
        assert result.warnings[0] == "drift: render the script again"
        assert "the schedule report: write /etc/nbprovision/schedules/report" in result.warnings
        assert not (machine.home / "schedules").exists()

    def test_what_root_did_is_ok(self, machine: Machine) -> None:
        brought_about(task(env="python3"), machine)
        assert carried_out(task(env="python3"), machine).status == "ok"
        assert carried_out(task(env="python3", every="2h"), machine).status == "skipped"

    def test_a_timer_that_was_not_started(self, machine: Machine) -> None:
        brought_about(task(), machine)
        (machine.root / "etc/systemd/system/timers.target.wants/nbprovision-schedule-report.timer").unlink()
        assert task().read(machine).differences == ("start the timer",)

    def test_absent(self, machine: Machine) -> None:
        assert carried_out(task(state="absent"), machine).status == "ok"
        brought_about(task(), machine)
        assert len(task(state="absent").read(machine).differences) == 3

    def test_a_link_in_the_place_of_a_file_is_a_reason(self, machine: Machine) -> None:
        brought_about(task(), machine)
        script = machine.root / "etc/nbprovision/schedules/report"
        script.rename(script.with_name("other"))
        script.symlink_to("other")
        result = carried_out(task(), machine)
        assert result.status == "skipped"
        assert any("is a link" in reason for reason in result.warnings)


def is_alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


class Script:
    """The script of a schedule, run as the service runs it."""

    def __init__(self, machine: Machine) -> None:
        self.machine = machine
        self.folder = machine.home / "schedules"

    def write(self, **parameters: Any) -> Path:
        path = self.machine.home.with_name("script")
        path.write_text(schedule.script(dict(task(**parameters).wanted_of(self.machine)), shlex.quote(str(RUNNER))))
        return path

    def start(self, *words: str, by: str = "/bin/sh", **parameters: Any) -> subprocess.Popen[bytes]:
        env = {"HOME": self.machine.env["HOME"], "PATH": "/usr/local/bin:/usr/bin:/bin", "LANG": "C.UTF-8"}
        return subprocess.Popen([by, str(self.write(**parameters)), *words], env=env, cwd="/")

    def run(self, *words: str, **parameters: Any) -> int:
        return self.start(*words, **parameters).wait(60)

    @property
    def record(self) -> dict[str, Any]:
        content: dict[str, Any] = json.loads((self.folder / "report.json").read_text())
        return content

    @property
    def output(self) -> list[str]:
        lines = (self.folder / "report.log").read_text().splitlines()
        return [line for line in lines if not line.startswith("--- ")]

    def set_last(self, started: float) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)
        text = f'{{"started": {int(started)}, "ended": {int(started)}, "status": 0, "reason": ""}}\n'
        (self.folder / "report.json").write_text(text)


@pytest.fixture
def script(machine: Machine) -> Script:
    return Script(machine)


class TestTheScript:
    @pytest.mark.parametrize("shell", ["/bin/sh", "/bin/bash"])
    def test_the_command_gets_its_words_as_they_are(self, script: Script, shell: str) -> None:
        words = ["a b", "$HOME", "%n", "'", '"', "`id`", "\\", "", "*", "ä", "line\nend", ";"]
        show = [
            sys.executable,
            "-c",
            "import json, sys, os; print(json.dumps([sys.argv[1:], os.environ['A'], os.getcwd()]))",
        ]
        assert script.start(argv=[*show, *words], environment={"A": "x'$y\n%"}, by=shell).wait(60) == 0
        assert json.loads(script.output[-1]) == [words, "x'$y\n%", script.machine.env["HOME"]]
        assert (script.record["status"], script.record["reason"]) == (0, "")
        assert {path.stat().st_mode & 0o777 for path in script.folder.iterdir()} == {0o600}

    def test_variables_do_not_disturb_the_script(self, script: Script) -> None:
        names = ("home", "name", "env", "every", "limit", "PATH", "record", "log", "status", "HOME")
        assert script.run(argv=["/bin/sh", "-c", "echo $home $PATH"], environment=dict.fromkeys(names, "x")) == 0
        assert script.output == ["x x"]
        assert script.record["status"] == 0

    def test_a_failure(self, script: Script) -> None:
        assert script.run(shell="echo wrong >&2\nexit 7") == 1
        assert (script.record["status"], script.output) == (7, ["wrong"])
        assert script.run(argv=["no-such-program"]) == 1
        assert script.record["status"] == 127

    def test_the_time_limit_ends_it_with_its_children(self, script: Script) -> None:
        assert script.run(shell="sleep 600 & echo $!; sleep 601", timeout="1s") == 1
        assert script.record["reason"] == "timeout"
        until(lambda: not is_alive(int(script.output[0])))

    def test_its_own_status_is_not_taken_for_the_time_limit(self, script: Script) -> None:
        script.run(shell="exit 124")
        assert (script.record["status"], script.record["reason"]) == (124, "")

    def test_it_does_not_run_twice_at_once(self, script: Script) -> None:
        brought_about(task(), script.machine)
        first = script.start(shell="echo begun; sleep 600")
        until(lambda: "begun" in script.output)
        shown = schedules(script.machine.home, script.machine.root)
        assert script.run(shell="echo second") == 0
        first.terminate()
        assert first.wait(60) == 1
        assert script.output == ["begun"]
        assert script.record["reason"] == "stopped"
        assert [entry.state for entry in shown] == ["running"]

    def test_one_that_was_killed(self, script: Script) -> None:
        """Its record has no end, and the next run begins as usual."""
        brought_about(task(), script.machine)
        running = script.start(shell="echo begun; sleep 600")
        until(lambda: "begun" in script.output)
        children = subprocess.run(["pgrep", "-P", str(running.pid)], capture_output=True, text=True).stdout.split()
        running.kill()
        running.wait()
        for pid in map(int, children):
            os.kill(pid, signal.SIGTERM)
        until(lambda: schedules(script.machine.home, script.machine.root)[0].state != "running")
        (entry,) = schedules(script.machine.home, script.machine.root)
        assert (entry.state, script.record["ended"]) == ("interrupted", None)
        assert script.run(shell="echo again") == 0
        assert script.output[-1] == "again"

    def test_a_long_output_is_cut(self, script: Script) -> None:
        assert script.run(shell="yes | head -c 3000000; echo end") == 0
        assert (script.folder / "report.log").stat().st_size < 2_100_000
        assert script.run(shell="echo short") == 0
        assert (script.folder / "report.log.1").stat().st_size > 1_000_000
        assert script.output == ["short"]

    def test_a_process_that_keeps_the_output_holds_nothing_up(self, script: Script) -> None:
        began = time.monotonic()
        assert script.run(shell="setsid sleep 60 & echo $!") == 0
        assert time.monotonic() - began < 30
        os.kill(int(script.output[0]), signal.SIGKILL)

    def test_an_environment_is_activated(self, script: Script) -> None:
        prefix = Path(script.machine.env["HOME"], "SageMaker/envs/fraud")
        subprocess.run([sys.executable, "-m", "venv", "--without-pip", prefix], check=True)
        code = "import os, sys; print(sys.prefix, os.environ['VIRTUAL_ENV'], os.environ['A'])"
        for env in ("fraud", "~/SageMaker/envs/fraud", str(prefix)):
            assert script.run(argv=["python", "-c", code], env=env, environment={"A": "own"}) == 0
            assert script.output[-1] == f"{prefix} {prefix} own"
        assert script.run(argv=["python", "-V"], env="missing") == 1
        assert script.output[-1] == "there is no environment missing"
        assert script.record["reason"] == "environment"

    def test_a_missing_tool_is_a_failure_with_a_reason(self, script: Script) -> None:
        assert script.run(argv=["nbprovision", "run", "x.yml"]) == 1
        assert script.record["status"] == 127
        assert "nbprovision" in script.output[-1]

    def test_without_the_tool_the_record_says_so(self, script: Script) -> None:
        """The script of root's finds the rest in the tool's own environment, which may be gone."""
        path = script.machine.home.with_name("script")
        path.write_text(schedule.script(dict(task(every="1h").wanted_of(script.machine))))
        env = {"HOME": script.machine.env["HOME"], "PATH": "/usr/bin:/bin"}
        brought_about(task(), script.machine)
        assert subprocess.run(["/bin/sh", str(path)], env=env).returncode == 1
        assert (script.record["status"], script.record["reason"]) == (127, "tool")
        assert (
            "the lifecycle script installs it" in schedules(script.machine.home, script.machine.root)[0].lines(str)[0]
        )
        packages = script.machine.home / "venv/lib/python3.11/site-packages"
        packages.mkdir(parents=True)
        (packages / "nbprovision").symlink_to(RUNNER.parents[1])
        assert subprocess.run(["/bin/sh", str(path)], env=env).returncode == 0
        assert (script.record["status"], script.record["reason"]) == (0, "")

    def test_a_planted_link_wins_nothing(self, script: Script, tmp_path: Path) -> None:
        """The files are the user's, and so are those that a link of the user's names."""
        script.folder.mkdir(parents=True)
        (script.folder / "report.json").symlink_to(tmp_path / "elsewhere")
        assert script.run(shell="echo x") == 0
        assert not (tmp_path / "elsewhere").exists()

    def test_shellcheck_finds_nothing(self, script: Script) -> None:
        if not shutil.which("shellcheck"):
            pytest.skip("there is no shellcheck")
        for path in (script.write(shell="x"), RUNNER):
            options = ["--exclude=SC2016,SC2034,SC2043,SC2086,SC2088,SC1090,SC2317", str(path)]
            done = subprocess.run(["shellcheck", *options], capture_output=True, text=True)
            assert done.stdout == ""


class TestMissed:
    @pytest.mark.parametrize(
        ("parameters", "ago", "runs"),
        [
            ({"every": "1h"}, 1800, False), ({"every": "1h"}, 3600, True), ({"every": "1h"}, 10 * 86400, True), ({"every": "1h"}, None, True),
            ({"every": "1h"}, -86400, True), ({"at": "*:00/1"}, 120, True), ({"at": "*-*-* 00:00"}, 2 * 86400, True), ({"at": "*-*-* 00:00"}, None, True),
        ],
    )  # fmt: skip
    def test_a_missed_run_is_made_up_for(
        self, script: Script, parameters: dict[str, Any], ago: float | None, runs: bool
    ) -> None:
        if ago is not None:
            script.set_last(time.time() - ago)
        assert script.run(shell="echo ran", missed=True, **parameters) == 0
        assert (script.folder / "report.log").exists() is runs

    @pytest.mark.skipif(not shutil.which("systemd-analyze"), reason="there is no systemd-analyze")
    def test_a_run_that_is_not_due(self, script: Script) -> None:
        script.set_last(time.time() - 1)
        assert script.run(shell="echo ran", missed=True, at="*-02-29 00:00") == 0
        assert not (script.folder / "report.log").exists()
        assert script.run("now", shell="echo ran", missed=True, at="*-02-29 00:00") == 0
        assert script.output == ["ran"]

    def test_without_it_each_call_runs(self, script: Script) -> None:
        script.set_last(time.time() - 1)
        assert script.run(shell="echo ran") == 0
        assert script.output == ["ran"]


class TestStatus:
    def test_before_and_after_a_run(self, script: Script) -> None:
        brought_about(task(at="Mon..Fri 08:30", shell="echo a\n echo b"), script.machine)
        (entry,) = schedules(script.machine.home, script.machine.root)
        assert (entry.state, entry.command, entry.log) == ("never", "echo a echo b", "")
        assert entry.next is not None
        assert entry.next > time.time()
        script.run(shell="exit 3")
        (entry,) = schedules(script.machine.home, script.machine.root)
        head, *below = entry.lines(lambda moment: f"<{int(moment)}>")
        ended = script.record["ended"]
        assert head == f"schedule report, Mon..Fri 08:30: failed (<{ended}>, exit status 3): echo a echo b"
        assert below == [f"  next: <{int(entry.next or 0)}>", f"  {script.folder}/report.log"]

    def test_the_next_run_of_every(self, script: Script) -> None:
        brought_about(task(every="8h"), script.machine)
        assert schedules(script.machine.home, script.machine.root)[0].next is None
        script.run()
        (entry,) = schedules(script.machine.home, script.machine.root)
        assert entry.next == script.record["started"] + 8 * 3600
        assert entry.lines(str)[0].startswith("schedule report, every 8h: ok (")

    @pytest.mark.parametrize(
        "content",
        ["", "{}", "[", '{"started": -1, "ended": null, "status": 0, "reason": ""}', "x" * 100, '{"started": 1e300}'],
    )
    def test_damaged_records(self, script: Script, content: str) -> None:
        brought_about(task(), script.machine)
        script.folder.mkdir(parents=True)
        (script.folder / "report.json").write_text(content)
        assert [entry.state for entry in schedules(script.machine.home, script.machine.root)] == ["never"]
        assert script.run(shell="true") == 0

    def test_damaged_descriptions(self, machine: Machine) -> None:
        folder = machine.root / "etc/nbprovision/schedules"
        folder.mkdir(parents=True)
        (folder / "a").write_text("")
        (folder / "b").write_text("#!/bin/sh\n# nbprovision schedule: {}\n")
        (folder / "c").symlink_to("/dev/zero")
        (folder / "d").mkdir()
        (folder / "e").write_text(
            '#!\n# nbprovision schedule: {"name": "../x", "command": "", "every": 0, "at": "", "missed": false}\n'
        )
        assert schedules(machine.home, machine.root) == []
