"""``ensure_idle_stop``: what root is handed, what a run compares, the watcher in Studio, and the user's hold."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import stat
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from nbprovision.catalogue import Catalogue
from nbprovision.cli import main
from nbprovision.cli.status import Status
from nbprovision.engine.session import Request, Session
from nbprovision.machine.machine import Machine
from nbprovision.model.errors import ParameterError
from nbprovision.report.document import Silent
from nbprovision.root import idle_stop
from nbprovision.services import idle
from nbprovision.services.ensure_idle_stop import EnsureIdleStop
from tests.support.at_work import until

WATCHER = Path(idle_stop.__file__).with_name("idle_watch.py")
NAMES = {"ResourceArn": "arn:aws:sagemaker:eu-west-1:111122223333:notebook-instance/team", "ResourceName": "team"}
APP = {
    "ResourceArn": "arn:aws:sagemaker:eu-west-1:111122223333:app/d-1/mine/JupyterLab/default",
    "ResourceName": "default", "DomainId": "d-1abc", "SpaceName": "mine", "AppType": "JupyterLab",
}  # fmt: skip


@pytest.mark.parametrize(
    ("parameters", "key"),
    [
        ({"after": "59s"}, "after"), ({"after": "0h"}, "after"), ({"after": "31d"}, "after"), ({"every": "9s"}, "every"),
        ({"after": "1m", "every": "2m"}, "every"), ({"grace": "999d"}, "grace"), ({"keep_awake": "31d"}, "keep_awake"),
    ],
)  # fmt: skip
def test_a_length_that_cannot_be_is_refused(parameters: dict[str, Any], key: str) -> None:
    with pytest.raises(ParameterError) as caught:
        EnsureIdleStop(**{"after": "2h", **parameters})
    assert caught.value.key == key


@pytest.mark.parametrize(
    "value", ["after: 2h%n", "after: '-2h'", 'after: "2h\\nExecStart=/x"', "after: 2h, every: $(id)", "after: 2h, signal: /x", "after: 2h, busy_cpu: -1", "after: 2h, user: root"]
)  # fmt: skip
def test_what_could_become_roots_is_refused(value: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    playbook = tmp_path / "p.yml"
    playbook.write_text(f"- root_tasks:\n    - ensure_idle_stop: {{{value}}}\n")
    words = [
        "s3://team-bucket/p.yml",
        "--root-tasks",
        str(playbook),
        "--tool",
        "s3://team-bucket/t",
        "--assets-url",
        "s3://team-bucket/t",
    ]
    assert main(["lifecycle", "render", *words]) == 4
    assert "p.yml:2:" in capsys.readouterr().err


def test_it_does_not_fit_and_goes_by_assets(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    playbook = tmp_path / "p.yml"
    playbook.write_text("- root_tasks:\n    - ensure_idle_stop: {after: 2h}\n")
    words = [
        "lifecycle",
        "render",
        "s3://team-bucket/p.yml",
        "--root-tasks",
        str(playbook),
        "--tool",
        "s3://team-bucket/t",
    ]
    assert main(words) == 5
    assert "root's part (ensure_idle_stop) takes" in capsys.readouterr().err
    assert main([*words, "--assets", str(tmp_path / "out"), "--assets-url", "s3://team-bucket/t"]) == 0
    (program,) = (tmp_path / "out").glob("root-*")
    assert "idle_watch" in program.read_text()


# ----------------------------------------------------------------------------------------------- on a notebook instance


@pytest.fixture
def instance(tmp_path: Path) -> Machine:
    """A notebook instance whose root folder is the test's."""
    root = tmp_path / "root"
    for folder in ("opt/ml/metadata", "etc", "usr/bin", "home/ec2-user/SageMaker"):
        (root / folder).mkdir(parents=True)
    (root / "opt/ml/metadata/resource-metadata.json").write_text(json.dumps(NAMES))
    (root / "etc/passwd").write_text(f"root:x:0:0::/:/bin/sh\nec2-user:x:{os.getuid()}:{os.getgid()}::/home:/bin/sh\n")
    (root / "usr/bin/aws").write_text("")
    (root / "usr/bin/aws").chmod(0o755)
    (tmp_path / "user").mkdir()
    env = {"HOME": str(tmp_path / "user"), "PATH": "/usr/bin:/bin", "NBPROVISION_HOME": str(tmp_path / "home")}
    return Machine(env, root=root)


def installed(machine: Machine, task: EnsureIdleStop) -> None:
    """What root's part leaves."""
    for path, text in idle_stop._texts(dict(task.wanted())).items():
        place = machine.root / path[1:]
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_text(text)
    (machine.root / idle_stop.HOLD_FOLDER[1:]).mkdir(parents=True)
    (machine.root / "run/nbprovision").mkdir()
    (machine.root / idle_stop.REPORT[1:]).write_text(json.dumps(REPORT))
    wants = machine.root / "etc/systemd/system/timers.target.wants"
    wants.mkdir(parents=True)
    (wants / "nbprovision-idle.timer").symlink_to("/etc/systemd/system/nbprovision-idle.timer")


REPORT = {
    "time": 1772359200.0, "decision": "keep", "why": ["x is at work"], "unknown": ["y"], "idle": 5.0, "held": 0,
    "after": 7200.0, "every": 300.0, "limit": 43200.0, "dry_run": False, "platform": "notebook-instance",
}  # fmt: skip


def test_what_is_in_place_is_ok_and_each_drift_is_seen(instance: Machine) -> None:
    task = EnsureIdleStop(after="2h")
    assert any("write /usr/lib/nbprovision/idle_watch.py" in text for text in task.read(instance).differences)
    installed(instance, task)
    assert task.read(instance).differences == ()
    assert EnsureIdleStop(after="3h").read(instance).differences == ("write /usr/lib/nbprovision/idle.json",)
    assert EnsureIdleStop(after="2h", every="1m").read(instance).differences == (
        "write /usr/lib/nbprovision/idle.json", "write /etc/systemd/system/nbprovision-idle.timer",
    )  # fmt: skip
    (instance.root / "usr/bin/aws").unlink()
    assert "the aws command" in task.read(instance).differences[0]
    assert EnsureIdleStop(after="2h", dry_run=True).read(instance).differences == (
        "write /usr/lib/nbprovision/idle.json",
    )
    (instance.root / "usr/bin/aws").symlink_to("/bin/true")
    long_ago = time.time() - 3 * 300 - 400
    os.utime(instance.root / idle_stop.REPORT[1:], (long_ago, long_ago))
    assert task.read(instance).differences == ("start the timer",)
    (instance.root / idle_stop.HOLD_FOLDER[1:]).rmdir()
    (instance.root / idle_stop.HOLD_FOLDER[1:]).symlink_to("/etc")
    assert f"make {idle_stop.HOLD_FOLDER}" in task.read(instance).differences


def test_files_are_refused_on_an_instance_with_the_reason(instance: Machine) -> None:
    task = EnsureIdleStop(after="2h", signal="files")
    (reason,) = task.read(instance).differences
    assert reason.startswith("signal: files is for Code Editor in Studio")
    with pytest.raises(Exception, match=r"signal: files|systemd does not run"):
        idle_stop.bring_about(dict(task.wanted()))


def test_proxies_of_roots_script_reach_the_watcher() -> None:
    """In the form of a file of variables, in which no value makes a line of its own."""
    env = {"https_proxy": "http://proxy.example:3128", "no_proxy": "169.254.169.254,.x", "http_proxy": 'x"\nPATH="/tmp'}
    assert idle_stop.proxies(env) == 'https_proxy="http://proxy.example:3128"\nno_proxy="169.254.169.254,.x"\n'
    assert idle_stop.proxies({}) == ""


def test_root_leaves_studio_to_the_user(instance: Machine) -> None:
    (instance.root / "opt/ml/metadata/resource-metadata.json").write_text(json.dumps(APP))
    assert idle_stop.differences(dict(EnsureIdleStop(after="2h").wanted()), str(instance.root)) == []


def test_the_units_are_what_systemd_reads(instance: Machine, tmp_path: Path) -> None:
    """By systemd's own judge, where it is installed."""
    texts = idle_stop._texts(dict(EnsureIdleStop(after="2h").wanted()))
    for path, text in texts.items():
        if path.endswith((".service", ".timer")):
            (tmp_path / Path(path).name).write_text(text)
    try:
        done = subprocess.run(
            ["systemd-analyze", "verify", tmp_path / "nbprovision-idle.timer"],
            capture_output=True,
            text=True,
            check=False,
        )
    except FileNotFoundError:
        pytest.skip("there is no systemd-analyze here")
    assert "nbprovision-idle" not in done.stderr, done.stderr


# ------------------------------------------------------------------------------------------------ what its user sees


@pytest.fixture
def place(instance: Machine, monkeypatch: pytest.MonkeyPatch) -> Machine:
    """The instance with the watcher, as commands of its user see it."""
    installed(instance, EnsureIdleStop(after="2h"))
    of = idle.Idle.of
    monkeypatch.setattr(idle.Idle, "of", lambda home, root=instance.root: of(home, root))
    monkeypatch.setenv("NBPROVISION_HOME", str(instance.home))
    return instance


def report(machine: Machine, **changes: Any) -> None:
    (machine.root / idle_stop.REPORT[1:]).write_text(json.dumps({**REPORT, "time": time.time(), **changes}))


def test_status_shows_the_decision(place: Machine, capsys: pytest.CaptureFixture[str]) -> None:
    report(place)
    assert main(["status"]) == 0
    text = capsys.readouterr().out
    assert "idle stop: keep: x is at work; unknown: y (" in text
    assert "stops after 2h" in text
    assert main(["status", "--format", "json"]) == 0
    document = json.loads(capsys.readouterr().out)["idle"]
    assert document["runs"] is True
    assert document["last_look"]["why"] == ["x is at work"]
    report(place, time=time.time() - 9000)
    assert Status.of(place.home).idle is not None
    main(["status"])
    assert "it has not looked since then, and does not run" in capsys.readouterr().out


@pytest.mark.parametrize("text", ["", "{", "[]", '{"time": "x"}', json.dumps({**REPORT, "time": 1e300}), "[" * 100_000])
def test_a_report_that_is_none(place: Machine, capsys: pytest.CaptureFixture[str], text: str) -> None:
    (place.root / idle_stop.REPORT[1:]).write_text(text)
    assert main(["status"]) == 0
    assert "idle stop: it does not run" in capsys.readouterr().out
    assert main(["keep-awake", "3h"]) == 2
    assert "its watcher has not looked yet" in capsys.readouterr().err


def test_nothing_of_a_hostile_report_reaches_the_terminal(place: Machine, capsys: pytest.CaptureFixture[str]) -> None:
    report(place, why=["\x1b[2Jx"], decision="stop\x1b]0;x\x07")
    main(["status"])
    main(["keep-awake"])
    assert "\x1b" not in capsys.readouterr().out


def test_hold_show_and_end(place: Machine, capsys: pytest.CaptureFixture[str]) -> None:
    path = place.root / idle_stop.HOLD[1:]
    report(place)
    assert main(["keep-awake", "3h"]) == 0
    assert abs(int(path.read_text()) - time.time() - 3 * 3600) < 60
    assert stat.S_IMODE(path.stat().st_mode) == 0o644
    assert "kept awake until" in capsys.readouterr().out
    assert main(["keep-awake", "--format", "json"]) == 0
    assert json.loads(capsys.readouterr().out)["held_until"] > time.time()
    assert main(["keep-awake", "off"]) == 0
    assert not path.exists()
    assert "kept awake" not in capsys.readouterr().out
    assert main(["keep-awake", "7d"]) == 0
    assert "the playbook allows 12h" in capsys.readouterr().err
    assert abs(int(path.read_text()) - time.time() - 12 * 3600) < 60
    report(place, limit=0)
    assert main(["keep-awake", "1h"]) == 2
    assert "keep_awake: 0h" in capsys.readouterr().err


@pytest.mark.parametrize("text", ["0h", "-3h", "3", "three", "3h3m", "1e9h", "٣h", "", "3h\n", "x" * 1000])
def test_what_is_no_duration_is_refused(place: Machine, capsys: pytest.CaptureFixture[str], text: str) -> None:
    assert main(["keep-awake", f"{text}"]) == 5
    assert "Traceback" not in capsys.readouterr().err
    assert not (place.root / idle_stop.HOLD[1:]).exists()


def test_where_nothing_stops_there_is_nothing_to_hold(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("NBPROVISION_HOME", str(tmp_path))
    assert main(["keep-awake", "3h"]) == 2
    assert "nothing stops this machine when it is idle" in capsys.readouterr().err
    main(["status"])
    assert "idle stop" not in capsys.readouterr().out


# ------------------------------------------------------------------------------------------------------------ in Studio


@pytest.fixture
def studio(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Machine]:
    """A space of Studio, with a stand-in for aws that records its call: moto's server knows no DeleteApp."""
    root = tmp_path / "root"
    for folder in ("opt/ml/metadata", "home/sagemaker-user", "opt/conda/bin"):
        (root / folder).mkdir(parents=True)
    (root / "opt/ml/metadata/resource-metadata.json").write_text(json.dumps(APP))
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin/aws").write_text(f'#!/bin/sh\necho "$@" >>{tmp_path}/calls\n')
    (tmp_path / "bin/aws").chmod(0o755)
    env = {
        "HOME": str(root / "home/sagemaker-user"), "PATH": f"{tmp_path}/bin:/usr/bin:/bin",
        "NBPROVISION_HOME": str(tmp_path / "home"),
    }  # fmt: skip
    monkeypatch.setenv("NBPROVISION_HOME", str(tmp_path / "home"))
    machine = Machine(env, root=root)
    yield machine
    for path in (machine.home / "commands").glob("*.json"):
        with contextlib.suppress(ProcessLookupError, ValueError):
            os.kill(json.loads(path.read_text())["pid"], signal.SIGTERM)
    # The keeper ends the watcher, and records that.
    until(lambda: not any(entry.state == "running" for entry in idle.in_background(machine.home)))


@pytest.fixture
def play(studio: Machine, tmp_path: Path) -> Callable[..., list[tuple[str, str]]]:
    """Runs a playbook with the task, as another process would; status and proof of each task."""

    def run(parameters: str, *, check: bool = False) -> list[tuple[str, str]]:
        path = tmp_path / "p.yml"
        path.write_text(f"- root_tasks:\n    - ensure_idle_stop: {{{parameters}}}\n")
        machine = Machine(studio.env, root=studio.root)
        request = Request(playbook=path, check=check)
        results, _ = Session(request, machine, Catalogue()).perform(Silent(), lambda _: None)
        assert not [result.error for result in results if result.error]
        return [(result.status, result.proof) for result in results]

    return run


FILES = "after: 1m, every: 10s, grace: 0s, busy_cpu: 0, terminals: false, signal: files"


def last_look(machine: Machine) -> dict[str, Any]:
    content: dict[str, Any] = json.loads((machine.home / "idle/report.json").read_text())
    return content


def watchers(machine: Machine) -> list[int]:
    """The processes of the watcher, by what they were started with."""
    name = str(machine.home / "idle/settings.json").encode()
    pids = []
    for path in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            if name in (path / "cmdline").read_bytes().split(b"\0"):
                pids.append(int(path.name))
    return pids


def test_check_starts_nothing(studio: Machine, play: Callable[..., list[tuple[str, str]]]) -> None:
    assert play(FILES, check=True) == [("changed", "check")]
    assert not (studio.home / "idle").exists()
    assert watchers(studio) == []


def test_it_is_started_once_again_after_a_kill_and_takes_new_settings(
    studio: Machine, play: Callable[..., list[tuple[str, str]]], capsys: pytest.CaptureFixture[str]
) -> None:
    assert play(FILES) == [("changed", "check")]
    until(lambda: last_look(studio))
    (first,) = watchers(studio)
    assert play(FILES)[0][0] == "ok"
    assert watchers(studio) == [first]
    assert last_look(studio)["decision"] == "keep"
    main(["status"])
    shown = capsys.readouterr().out
    assert "in Studio it is a process of the user's, who can end it" in shown
    assert "there is none of /opt/amazon/sagemaker" in shown
    assert play(FILES.replace("1m", "2m"))[0][0] == "changed"
    assert watchers(studio) == [first], "it reads its settings at each look"
    until(lambda: last_look(studio)["after"] == 120)
    os.kill(first, signal.SIGKILL)
    until(lambda: not any(entry.state == "running" for entry in idle.in_background(studio.home)))
    main(["status"])
    assert "it has not looked since then, and does not run" in capsys.readouterr().out
    Path(studio.home / "state.json").unlink(missing_ok=True)
    machine = Machine(studio.env, root=studio.root)
    task = EnsureIdleStop(after="2m", every="10s", grace="0s", busy_cpu=0, terminals=False, signal="files")
    assert task.read(machine).differences == ("start",)
    task.apply(None, machine)
    until(lambda: watchers(studio))
    assert watchers(studio) != [first]


def test_a_hold_in_studio(
    studio: Machine, play: Callable[..., list[tuple[str, str]]], capsys: pytest.CaptureFixture[str]
) -> None:
    play(FILES)
    until(lambda: last_look(studio))
    assert main(["keep-awake", "2h"]) == 0
    assert "kept awake until" in capsys.readouterr().out
    until(lambda: "keeps it awake" in last_look(studio)["why"][0])


def test_an_idle_editor_is_deleted(studio: Machine, play: Callable[..., list[tuple[str, str]]], tmp_path: Path) -> None:
    """With the state files of an editor that nobody has changed for a year; the call reaches the stand-in."""
    settings = studio.home / "idle/settings.json"
    play(FILES)
    until(lambda: last_look(studio))
    (tmp_path / "User").mkdir()
    os.utime(tmp_path / "User", (1.0, 1.0))
    content = {**json.loads(settings.read_text()), "files": [str(tmp_path / "User")], "after": 0.0, "loop": False}
    settings.write_text(json.dumps(content))
    subprocess.run([sys.executable, "-I", "-S", WATCHER, settings], check=True, capture_output=True)
    words = (tmp_path / "calls").read_text().splitlines()[-1]
    assert words.startswith(
        "sagemaker delete-app --domain-id d-1abc --app-type JupyterLab --app-name default --space-name mine"
    )
    assert last_look(studio)["decision"] == "stop"


# ------------------------------------------------------------------------------------------------------ the samples


SAMPLES = Path(__file__).parents[2] / "playbooks/samples"


def test_the_sample_for_instances_is_compared(place: Machine) -> None:
    request = Request(playbook=SAMPLES / "auto-stop-idle.yml")
    results, _ = Session(request, place, Catalogue()).perform(Silent(), lambda _: None)
    assert [result.status for result in results] == ["ok"]
    request = Request(playbook=SAMPLES / "auto-stop-idle.yml", extra_vars={"tabs": "false"}, selection=("tabs",))
    results, _ = Session(request, Machine(place.env, root=place.root), Catalogue()).perform(Silent(), lambda _: None)
    assert [result.status for result in results] == ["skipped"]


def test_the_sample_for_studio_starts_the_watcher(studio: Machine) -> None:
    request = Request(playbook=SAMPLES / "studio-auto-stop.yml", extra_vars={"dry_run": True, "signal": "files"})
    results, _ = Session(request, studio, Catalogue()).perform(Silent(), lambda _: None)
    assert [result.status for result in results] == ["changed"]
    until(lambda: last_look(studio)["dry_run"])
