"""Services of systemd: whether they run, start with the machine, are masked, and one drop-in of ours.

Sources: systemd.unit(5), systemctl(1); what the files under /etc/systemd/system and the control groups show needs no
process.
"""

from __future__ import annotations

import os
import re
from typing import Any

from nbprovision.root import tools

_UNITS = "/etc/systemd/system/"
_PENDING = "/run/nbprovision/restart-"
JUPYTER = "jupyter-server.service"


def differences(wanted: dict[str, Any], root: str) -> list[str]:
    """Say in what the service differs.

    Args:
        wanted: ``unit``, ``state``, ``enabled``, ``masked``, ``drop_in``, each None for any; ``seconds``.
        root: The folder to take for ``/``.

    """
    unit, result = wanted["unit"], []
    if wanted["masked"] is not None and wanted["masked"] != is_masked(unit, root):
        result.append("mask" if wanted["masked"] else "unmask")
    if wanted["drop_in"] is not None and (tools.read(_drop_in(unit), root) or "") != wanted["drop_in"]:
        result.append("write its settings" if wanted["drop_in"] else "remove its settings")
    if wanted["enabled"] is not None and wanted["enabled"] != is_enabled(unit, root):
        result.append("enable" if wanted["enabled"] else "disable")
    if wanted["state"] is not None and (wanted["state"] == "started") != is_running(unit, root):
        result.append("start" if wanted["state"] == "started" else "stop")
    if os.path.lexists(tools.below(_PENDING + unit, root)):
        result.append("restart with its settings")
    return result


def bring_about(wanted: dict[str, Any]) -> None:
    """Bring the service about, in an order in which no step undoes another."""
    unit, left = wanted["unit"], differences(wanted, tools.ROOT)
    seconds = wanted["seconds"]
    if "unmask" in left:
        tools.systemctl("unmask", unit)
    if "write its settings" in left or "remove its settings" in left:
        if is_running(unit, tools.ROOT):
            tools.write(_PENDING + unit, "")  # a kill must not leave it with its old settings
        if wanted["drop_in"]:
            tools.write(_drop_in(unit), wanted["drop_in"])
        else:
            tools.remove(_drop_in(unit))
        tools.systemctl("daemon-reload")
    if "disable" in left or "enable" in left:
        tools.systemctl("enable" if wanted["enabled"] else "disable", unit)
    if "stop" in left:
        tools.systemctl("stop", unit, seconds=seconds)
    if "mask" in left:
        tools.systemctl("mask", unit)
    if os.path.lexists(_PENDING + unit):
        # Jupyter's start waits for this script, and so would the script for it.
        tools.systemctl(*(["--no-block"] if unit == JUPYTER else []), "try-restart", unit, seconds=seconds)
        tools.remove(_PENDING + unit)
    if "start" in left:
        tools.systemctl("start", unit, seconds=seconds)


def is_masked(unit: str, root: str) -> bool:
    """Whether nothing can start it: its unit file leads to /dev/null."""
    return _link(_UNITS + unit, root) == "/dev/null"


def is_enabled(unit: str, root: str) -> bool:
    """Whether something starts it: a link that ``systemctl enable`` makes, in a folder of a target or as an alias."""
    for folder, _, names in os.walk(tools.below(_UNITS, root)):
        wants = folder.endswith((".wants", ".requires"))
        for name in names:
            path = os.path.join(folder, name)
            alias = not wants and name != unit and os.path.islink(path) and os.path.basename(os.readlink(path)) == unit
            if alias or (wants and name == unit):
                return True
    return False


def is_running(unit: str, root: str) -> bool:
    """Whether it runs: it has a control group, or systemd knows it for active without a process."""
    slices = [""]
    if "@" in unit:
        slices.append("system-%s.slice/" % unit.partition("@")[0].replace("-", "\\x2d"))
    if any(tools.is_active(folder + unit, root) for folder in slices):
        return True
    without_process = root == tools.ROOT and re.search(
        r"^Type=(?:oneshot|forking)", _unit_file(unit, root), re.MULTILINE
    )
    return bool(without_process) and tools.run([tools.program("systemctl"), "is-active", "-q", unit], 10).status == 0


def _unit_file(unit: str, root: str) -> str:
    """Return the text of its own unit file; empty if it cannot be read."""
    name = re.sub(r"@[^.]*", "@", unit) if "@" in unit else unit
    for folder in (_UNITS, "/run/systemd/system/", "/usr/lib/systemd/system/", "/lib/systemd/system/"):
        try:
            text = tools.read(folder + name, root)
        except tools.Trouble:
            continue
        if text is not None:
            return text
    return ""


def _drop_in(unit: str) -> str:
    return _UNITS + unit + ".d/nbprovision.conf"


def _link(path: str, root: str) -> str:
    try:
        return os.readlink(tools.below(path, root))
    except OSError:
        return ""
