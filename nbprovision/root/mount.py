"""File systems at /mnt/NAME, each by a mount unit of systemd, which gives up in time.

Sources: systemd.mount(5); https://docs.aws.amazon.com/efs/latest/ug/mounting-fs-nfs-mount-settings.html
"""

from __future__ import annotations

import json
import re
from typing import Any

from nbprovision.root import tools

_UNITS = "/etc/systemd/system/"
_METADATA = "/opt/ml/metadata/resource-metadata.json"
_TABLE = "/proc/self/mountinfo"
_ESCAPED = re.compile(r"\\([0-7]{3})")


def differences(wanted: dict[str, Any], root: str) -> list[str]:
    """Say in what the mount differs.

    Args:
        wanted: ``name``, ``state``; ``source``, ``type``, ``options``, ``seconds``.
        root: The folder to take for ``/``.

    """
    place, unit = _place(wanted), _unit(wanted)
    mounted = is_mounted(place, root)
    written = tools.read(_UNITS + unit, root)
    if wanted["state"] == "absent":
        return ["unmount"] * mounted + ["remove %s" % unit] * (written is not None)
    if not mounted:
        return ["mount %s" % wanted["source"]]
    if written is None:
        return ["something else is mounted there"]
    return [] if written == _text(wanted, root) else ["mount it again"]


def bring_about(wanted: dict[str, Any]) -> None:
    """Mount it, or take it away.

    Raises:
        Unreachable: it cannot be mounted now, such as a server that does not answer.

    """
    tools.need_systemd()
    place, unit = _place(wanted), _unit(wanted)
    ours = tools.read(_UNITS + unit) is not None
    if is_mounted(place, tools.ROOT):
        if not ours:
            raise tools.Trouble("%s is mounted already, and not by this task" % place)
        tools.systemctl("stop", unit, seconds=wanted["seconds"])
    if wanted["state"] == "absent":
        tools.remove(_UNITS + unit)
        tools.systemctl("daemon-reload")
        return
    tools.make_folder(place)
    tools.write(_UNITS + unit, _text(wanted, tools.ROOT))
    tools.systemctl("daemon-reload")
    try:
        tools.systemctl("start", unit, seconds=wanted["seconds"] + 5)
    except tools.Trouble as trouble:
        raise tools.Unreachable("%s cannot be mounted: %s" % (wanted["source"], trouble)) from None


def is_mounted(place: str, root: str) -> bool:
    """Whether a file system is mounted at a place (proc(5), mountinfo)."""
    lines = (tools.read(_TABLE, root) or "").splitlines()
    return any(_plain(fields[4]) == place for fields in (line.split(" ") for line in lines) if len(fields) > 4)


def _plain(text: str) -> str:
    return _ESCAPED.sub(lambda match: chr(int(match[1], 8)), text)


def _place(wanted: dict[str, Any]) -> str:
    return "/mnt/%s" % wanted["name"]


def _unit(wanted: dict[str, Any]) -> str:
    """Return the name that systemd wants for the mount point (systemd.unit(5), string escaping)."""
    return "mnt-%s.mount" % str(wanted["name"]).replace("-", "\\x2d")


def _text(wanted: dict[str, Any], root: str) -> str:
    return """\
[Unit]
Description=%s, written by nbprovision
[Mount]
What=%s
Where=%s
Type=%s
Options=%s
TimeoutSec=%d
""" % (
        _place(wanted),
        _source(wanted["source"], root),
        _place(wanted),
        wanted["type"],
        ",".join(wanted["options"]),
        wanted["seconds"],
    )


def _source(source: str, root: str) -> str:
    """Return the source, with the region of this machine where it is the name of an EFS file system alone."""
    match = re.fullmatch(r"(fs-[0-9a-f]{8,40})(:/.*)", source)
    if match is None:
        return source
    return "%s.efs.%s.amazonaws.com%s" % (match[1], region(root), match[2])


def region(root: str) -> str:
    """Return the region of the machine, of the ARN that the platform writes for root; data, checked by pattern.

    Raises:
        Trouble: it is unknown.

    """
    try:
        arn = str(json.loads(tools.read(_METADATA, root) or "{}").get("ResourceArn", ""))
    except (ValueError, AttributeError):
        arn = ""
    match = re.match(r"arn:[a-z0-9-]{1,20}:sagemaker:([a-z]{2}[a-z0-9-]{1,28}):", arn)
    if match is None:
        raise tools.Trouble("the region of this machine is unknown: %s does not say it" % _METADATA)
    return match[1]
