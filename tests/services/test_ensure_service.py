"""``ensure_service``: its parameters, its drop-in, and what a run of the user's says of the machine."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from nbprovision.machine.machine import Machine
from nbprovision.model.errors import ParameterError, ProvisionError, TaskFailed
from nbprovision.services.ensure_service import EnsureService


def drop_in(**parameters: Any) -> Any:
    return EnsureService(name="agent", **parameters).wanted()["drop_in"]


@pytest.mark.parametrize("name", ["docker", "amazon-ssm-agent", "getty@tty1", "a.b_c"])
def test_names(name: str) -> None:
    assert EnsureService(name=name, enabled=True).unit == f"{name}.service"
    assert EnsureService(name=f"{name}.service", enabled=True).unit == f"{name}.service"


@pytest.mark.parametrize(
    "name",
    [
        "", "-x", "--root=/x", "a b", "a\nb", "a/b", "../x", "a..b", "%i", "a@", "@a", "a@b@c", "$(x)", "a;b", "a*", "a\0", "a\\x2d", "\u200b",
        "docker.socket", "x.timer", "a" * 300,
    ],
)  # fmt: skip
def test_hostile_names(name: str) -> None:
    with pytest.raises(ParameterError) as caught:
        EnsureService(name=name, enabled=True)
    assert caught.value.key == "name"


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("environment", {"A B": "x"}),
        ("environment", {"A=B": "x"}),
        ("environment", {"1": "x"}),
        ("environment", {"A\nB": "x"}),
        ("environment", {"A": "x\0y"}),
        ("environment", {"A": "x\x1by"}),
        ("environment", {"A": "x\ry"}),
        ("environment", {"DB_PASSWORD": "hunter2hunter2"}),
        ("environment", {"URL": "https://user:hunter2@example.com/"}),
        ("environment", {"PATH": "/home/ec2-user/bin:/usr/bin"}),
        ("environment", {"LD_PRELOAD": "/tmp/x.so"}),
        ("environment", {"PYTHONPATH": "/usr/lib:/var/tmp/x"}),
        ("settings", {"Service": {"exec start": "x"}}),
        ("settings", {"Service": {"A\nB": "x"}}),
        ("settings", {"Service": {"Environment": "A=b"}}),
        ("settings", {"Service": {"Nice": "1\nExecStart=/bin/x"}}),
        ("settings", {"Service": {"Nice": "1\\"}}),
        ("settings", {"Service": {"ExecStartPre": "/bin/echo %h"}}),
        ("settings", {"Service": {"ExecStartPre": "/home/ec2-user/x"}}),
        ("settings", {"Service": {"ExecStartPre": "-/bin/sh /tmp/x"}}),
        ("settings", {"Service": {"ExecStartPre": '/bin/sh "/mnt/team/x"'}}),
        ("settings", {"Service": {"ExecStartPre": ["", "+/var/tmp/x"]}}),
        ("settings", {"Service": {"EnvironmentFile": "-/home/ec2-user/env"}}),
    ],
)
def test_hostile_values(key: str, value: Any) -> None:
    with pytest.raises(ParameterError) as caught:
        EnsureService(name="agent", **{key: value})
    assert caught.value.key == key
    assert "hunter2" not in caught.value.text


@pytest.mark.parametrize(
    "parameters",
    [
        {}, {"masked": True, "state": "started"}, {"masked": True, "enabled": True}, {"enabled": True, "timeout": "1h"},
        {"name": "jupyter-server", "state": "started"}, {"name": "jupyter-server", "enabled": False},
        {"name": "jupyter-server.service", "masked": True},
    ],
)  # fmt: skip
def test_parameters_that_do_not_go_together(parameters: dict[str, Any]) -> None:
    with pytest.raises(ProvisionError):
        EnsureService(**{"name": "agent", **parameters})


def test_the_drop_in() -> None:
    assert drop_in(enabled=True) is None
    assert drop_in(settings={}) == ""
    assert drop_in(environment={}) == ""
    text = drop_in(
        environment={"A": 'it\'s 50% "of" \\ it\n\tall', "B": True, "SECRET_ARN": "arn:aws:secretsmanager:x"},
        settings={
            "Unit": {"After": ["a.service", "b.service"], "X-Setting": "/x"},
            "Service": {"CPUQuota": "50%", "Nice": 5, "WorkingDirectory": "/home/ec2-user"},
        },
    )
    assert text == (
        "# Written by nbprovision.\n"
        "[Service]\nCPUQuota=50%\nNice=5\nWorkingDirectory=/home/ec2-user\n"
        r'Environment="A=it' + r"'s 50%% \"of\" \\ it\n\tall" + '"\n'
        'Environment="B=true"\nEnvironment="SECRET_ARN=arn:aws:secretsmanager:x"\n'
        "[Unit]\nAfter=a.service\nAfter=b.service\nX-Setting=/x\n"
    )


def test_the_users_folders_are_jupyters_own() -> None:
    assert EnsureService(name="jupyter-server", environment={"PATH": "/home/ec2-user/bin:/usr/bin"}).wanted()["drop_in"]


def test_a_run_compares(tmp_path: Path) -> None:
    machine = Machine(root=tmp_path)
    task = EnsureService(name="agent", state="stopped", enabled=True, settings={"Service": {"Nice": 5}})
    plan = task.plan(task.read(machine))
    assert [(change.action, change.target) for change in plan.changes] == [
        ("write its settings", "service agent"),
        ("enable", "service agent"),
    ]
    assert task.ages(machine) == 300
    assert EnsureService(name="agent", environment={"A": "b"}).ages(machine) is None
    with pytest.raises(TaskFailed, match="left to root"):
        task.apply(plan, machine)


def test_two_tasks_that_disagree() -> None:
    machine = Machine()
    (on,) = EnsureService(name="agent", state="started").shared_values(machine)
    (off,) = EnsureService(name="agent.service", state="stopped").shared_values(machine)
    assert on.shares_file(off)
    assert (on.key, on.value, off.value) == (("state",), "started", "stopped")
