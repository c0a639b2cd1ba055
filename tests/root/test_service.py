"""What the files of systemd and the control groups show of a service; tests/container/test_root_service.py has systemd."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from nbprovision.root import service, tools

UNIT = "agent.service"


def wanted(**values: Any) -> dict[str, Any]:
    return {"unit": UNIT, "state": None, "enabled": None, "masked": None, "drop_in": None, "seconds": 5, **values}


def make(root: Path, what: str, unit: str = UNIT) -> None:
    units = root / "etc/systemd/system"
    path, target = {
        "wanted": (units / "multi-user.target.wants" / unit, f"/usr/lib/systemd/system/{unit}"),
        "required": (units / "x.target.requires" / unit, f"/usr/lib/systemd/system/{unit}"),
        "alias": (units / "other.service", f"/usr/lib/systemd/system/{unit}"),
        "masked": (units / unit, "/dev/null"),
        "own": (units / unit, f"/opt/{unit}"),
        "running": (root / "sys/fs/cgroup/system.slice" / unit, ""),
        "running, version 1": (root / "sys/fs/cgroup/systemd/system.slice" / unit, ""),
        "pending": (root / "run/nbprovision" / f"restart-{unit}", "x"),
    }[what]
    path.parent.mkdir(parents=True, exist_ok=True)
    path.symlink_to(target) if target else path.mkdir()


@pytest.mark.parametrize(
    ("state", "values", "left"),
    [
        ([], {"state": "started"}, ["start"]),
        (["running"], {"state": "started"}, []),
        (["running, version 1"], {"state": "stopped"}, ["stop"]),
        ([], {"state": "stopped", "enabled": False, "masked": False}, []),
        (["wanted"], {"enabled": True}, []),
        (["required"], {"enabled": False}, ["disable"]),
        (["alias"], {"enabled": False}, ["disable"]),
        (["masked", "own"][:1], {"enabled": True, "masked": True}, ["enable"]),
        (["own"], {"masked": True}, ["mask"]),
        (["own"], {"enabled": True}, ["enable"]),
        (["masked"], {"masked": False}, ["unmask"]),
        (["pending", "running"], {"state": "started"}, ["restart with its settings"]),
        ([], {"drop_in": "[Service]\n"}, ["write its settings"]),
        ([], {"drop_in": ""}, []),
        ([], {}, []),
    ],
)
def test_differences(tmp_path: Path, state: list[str], values: dict[str, Any], left: list[str]) -> None:
    for what in state:
        make(tmp_path, what)
    assert service.differences(wanted(**values), str(tmp_path)) == left


def test_the_drop_in(tmp_path: Path) -> None:
    folder = tmp_path / "etc/systemd/system/agent.service.d"
    folder.mkdir(parents=True)
    (folder / "nbprovision.conf").write_text("[Service]\n")
    assert service.differences(wanted(drop_in="[Service]\n"), str(tmp_path)) == []
    assert service.differences(wanted(drop_in=""), str(tmp_path)) == ["remove its settings"]
    (folder / "nbprovision.conf").unlink()
    (folder / "nbprovision.conf").symlink_to("/etc/shadow")
    with pytest.raises(tools.Trouble, match="is a link"):
        service.differences(wanted(drop_in=""), str(tmp_path))


def test_an_instance_of_a_template(tmp_path: Path) -> None:
    (tmp_path / r"sys/fs/cgroup/system.slice/system-my\x2dagent.slice/my-agent@1.service").mkdir(parents=True)
    values = wanted(unit="my-agent@1.service", state="started")
    assert service.differences(values, str(tmp_path)) == []
    assert service.differences({**values, "unit": "my-agent@2.service"}, str(tmp_path)) == ["start"]


class Systemd:
    """Writes down the commands, and keeps what they are said to do."""

    def __init__(
        self, monkeypatch: pytest.MonkeyPatch, left: list[str], *, running: bool = True, fails: str = ""
    ) -> None:
        self.commands: list[str] = []
        self.pending = False
        monkeypatch.setattr(service, "differences", lambda _wanted, _root: left)
        monkeypatch.setattr(service, "is_running", lambda _unit, _root: running)
        monkeypatch.setattr(service.os.path, "lexists", lambda _path: self.pending)
        monkeypatch.setattr(tools, "write", self.write)
        monkeypatch.setattr(tools, "remove", self.remove)
        monkeypatch.setattr(tools, "systemctl", self.systemctl)
        self.fails = fails

    def write(self, path: str, _text: str) -> None:
        self.pending |= path.startswith("/run/")
        self.commands.append(f"write {path}")

    def remove(self, path: str) -> None:
        self.pending &= not path.startswith("/run/")
        self.commands.append(f"remove {path}")

    def systemctl(self, *words: str, seconds: float = 30) -> None:
        self.commands.append(" ".join(words))
        if words[0] == self.fails:
            raise tools.Trouble("systemctl failed")


def test_the_order_of_the_steps(monkeypatch: pytest.MonkeyPatch) -> None:
    systemd = Systemd(monkeypatch, ["unmask", "write its settings", "enable", "start"], running=False)
    service.bring_about(wanted(drop_in="x", enabled=True, state="started", masked=False))
    drop_in = "/etc/systemd/system/agent.service.d/nbprovision.conf"
    assert systemd.commands == [
        f"unmask {UNIT}", f"write {drop_in}", "daemon-reload", f"enable {UNIT}", f"start {UNIT}"
    ]  # fmt: skip
    systemd = Systemd(monkeypatch, ["mask", "remove its settings", "disable", "stop"], running=False)
    service.bring_about(wanted(drop_in="", enabled=False, state="stopped", masked=True))
    assert systemd.commands == [f"remove {drop_in}", "daemon-reload", f"disable {UNIT}", f"stop {UNIT}", f"mask {UNIT}"]


def test_a_restart_that_was_cut_off_is_made_up_for(monkeypatch: pytest.MonkeyPatch) -> None:
    """The mark stands before the new settings do, and goes after the restart."""
    pending = f"/run/nbprovision/restart-{UNIT}"
    systemd = Systemd(monkeypatch, ["write its settings"], fails="daemon-reload")
    with pytest.raises(tools.Trouble):
        service.bring_about(wanted(drop_in="x"))
    assert systemd.commands[0] == f"write {pending}"
    assert systemd.pending
    systemd = Systemd(monkeypatch, ["restart with its settings"])
    systemd.pending = True
    service.bring_about(wanted(drop_in="x"))
    assert systemd.commands == [f"try-restart {UNIT}", f"remove {pending}"]


def test_jupyter_is_not_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    systemd = Systemd(monkeypatch, ["write its settings"])
    service.bring_about(wanted(unit=service.JUPYTER, drop_in="x"))
    assert f"--no-block try-restart {service.JUPYTER}" in systemd.commands
