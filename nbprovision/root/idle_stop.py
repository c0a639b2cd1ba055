"""The watcher that stops an idle notebook instance: a timer of root's starts it as a user of its own.

The service's user is made by systemd for each look (``DynamicUser``), so that the notebook's user can neither end the
watcher nor write what it remembers. systemd opens the report as root, and hands it to the watcher as its output.

Sources: systemd.exec(5), systemd.timer(5)
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import stat
import time
from collections.abc import Mapping
from typing import Any

from nbprovision.root import tools

_FOLDER = "/usr/lib/nbprovision"
WATCHER = _FOLDER + "/idle_watch.py"
SETTINGS = _FOLDER + "/idle.json"
_UNIT = "nbprovision-idle"
_SERVICE = "/etc/systemd/system/%s.service" % _UNIT
_TIMER = "/etc/systemd/system/%s.timer" % _UNIT
_PROXIES = _FOLDER + "/idle.env"  # those of root's script, by which AWS is reached
FILES = (WATCHER, SETTINGS, _SERVICE, _TIMER)
REPORT = "/run/nbprovision/idle.json"
HOLD_FOLDER = "/run/nbprovision-awake"  # the user's, who holds the machine by a file in it
HOLD = HOLD_FOLDER + "/until"
_METADATA = "/opt/ml/metadata/resource-metadata.json"
_FILES_REFUSED = (
    "signal: files is for Code Editor in Studio: it reads below the user's home, where root and what root starts open "
    "nothing; write signal: jupyter"
)


def differences(wanted: dict[str, Any], root: str) -> list[str]:
    """Say in what the watcher differs.

    Args:
        wanted: ``settings`` of the watcher, ``watcher``, its text, and ``user``, the notebook's.
        root: The folder to take for ``/``.

    """
    if _is_studio(root):
        return []  # the user's own run starts it
    if wanted["settings"]["signal"] == "files":
        return [_FILES_REFUSED]
    differs = ["write %s" % path for path, text in _texts(wanted).items() if tools.read(path, root) != text]
    try:
        uid, _ = _user(wanted["user"], root)
    except tools.Trouble as trouble:  # not an instance: a difference as any other, which a run remembers
        return [*differs, str(trouble)]
    with contextlib.suppress(FileNotFoundError):
        status = os.lstat(tools.below(HOLD_FOLDER, root))
        differs += ["make %s" % HOLD_FOLDER] * ((status.st_uid, stat.S_ISDIR(status.st_mode)) != (uid, True))
    if not os.path.lexists(tools.below(HOLD_FOLDER, root)):
        differs.append("make %s" % HOLD_FOLDER)
    if not tools.is_enabled(_UNIT + ".timer", "timers.target", root) or not _looks(wanted, root):
        differs.append("start the timer")
    if not wanted["settings"]["dry_run"] and not tools.program("aws", root):
        differs.append("the aws command of the system is missing, which would stop the instance")
    return differs


def bring_about(wanted: dict[str, Any]) -> None:
    """Install the watcher, and start its timer."""
    tools.need_systemd()
    if wanted["settings"]["signal"] == "files":
        raise tools.Trouble(_FILES_REFUSED)
    for path, text in _texts(wanted).items():
        tools.write(path, text)
    tools.write(_PROXIES, proxies(os.environ))
    _make_hold_folder(*_user(wanted["user"], tools.ROOT))
    settings = wanted["settings"]
    first = {
        "time": time.time(),
        "decision": "keep",
        "why": ["it has not looked yet"],
        "unknown": [],
        "idle": 0,
        "held": 0,
    }
    shared = {key: settings[key] for key in ("after", "every", "limit", "dry_run", "platform")}
    tools.write(REPORT, json.dumps(dict(first, **shared)) + "\n")
    tools.systemctl("daemon-reload")
    tools.systemctl("enable", _UNIT + ".timer")
    tools.systemctl("restart", "--no-block", _UNIT + ".timer")


def proxies(environment: Mapping[str, str]) -> str:
    """Return the proxies of an environment in the form of systemd.exec(5), EnvironmentFile."""
    return "".join(
        '%s="%s"\n' % (name, environment[name])
        for name in ("http_proxy", "https_proxy", "no_proxy")
        if re.fullmatch(r"[A-Za-z0-9:/._,*\[\]-]+", environment.get(name, ""))
    )


def _looks(wanted: dict[str, Any], root: str) -> bool:
    """Whether the last look is not too long ago: no file shows that a timer runs."""
    try:
        age = time.time() - os.lstat(tools.below(REPORT, root)).st_mtime
    except OSError:
        return False
    return bool(age < 3 * wanted["settings"]["every"] + 300)


def _make_hold_folder(uid: int, gid: int) -> None:
    """Make the folder of the user's. Root opens nothing in it."""
    above, name = os.path.split(HOLD_FOLDER)
    handle = os.open(above, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        with contextlib.suppress(FileExistsError):
            os.mkdir(name, 0o755, dir_fd=handle)
        folder = os.open(name, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=handle)
        try:
            os.fchown(folder, uid, gid)
        finally:
            os.close(folder)
    except OSError as error:
        raise tools.Trouble("%s cannot be made: %s" % (HOLD_FOLDER, error.strerror)) from None
    finally:
        os.close(handle)


def _user(name: str, root: str) -> tuple[int, int]:
    """Return the ids of the notebook's user, by the machine's own file of users (passwd(5))."""
    for line in (tools.read("/etc/passwd", root) or "").splitlines():
        fields = line.split(":")
        if fields[0] == name and len(fields) > 3 and fields[2].isdigit() and fields[3].isdigit():
            return int(fields[2]), int(fields[3])
    raise tools.Trouble("the user %s is missing here" % name)


def _is_studio(root: str) -> bool:
    try:
        names = json.loads(tools.read(_METADATA, root) or "{}")
    except ValueError:
        return False
    return isinstance(names, dict) and ("DomainId" in names or "SpaceName" in names)


def _texts(wanted: dict[str, Any]) -> dict[str, str]:
    """Return the text of each file."""
    service = """\
[Unit]
Description=Stops this notebook when it is idle, written by nbprovision
[Service]
Type=oneshot
ExecStart=/usr/bin/python3 -I -S %s %s
StandardOutput=file:%s
StandardError=journal
DynamicUser=yes
RuntimeDirectory=%s
RuntimeDirectoryPreserve=yes
Environment=HOME=/nonexistent LANG=C.UTF-8 PATH=/usr/bin:/bin
Environment=AWS_CONFIG_FILE=/dev/null AWS_SHARED_CREDENTIALS_FILE=/dev/null
EnvironmentFile=-%s
TimeoutStartSec=180
MemoryMax=512M
LimitCORE=0
UMask=0077
CapabilityBoundingSet=
LockPersonality=yes
PrivateDevices=yes
ProtectClock=yes
ProtectControlGroups=yes
ProtectHome=yes
ProtectHostname=yes
ProtectKernelLogs=yes
ProtectKernelModules=yes
ProtectKernelTunables=yes
RestrictAddressFamilies=AF_INET AF_INET6 AF_NETLINK AF_UNIX
RestrictNamespaces=yes
RestrictRealtime=yes
SystemCallArchitectures=native
""" % (WATCHER, SETTINGS, REPORT, _UNIT, _PROXIES)
    timer = """\
[Unit]
Description=Looks whether this notebook is idle, written by nbprovision
[Timer]
OnActiveSec=%d
OnUnitActiveSec=%d
AccuracySec=1s
[Install]
WantedBy=timers.target
""" % (min(60, wanted["settings"]["every"]), wanted["settings"]["every"])
    settings = json.dumps(wanted["settings"], sort_keys=True) + "\n"
    return {WATCHER: wanted["watcher"], SETTINGS: settings, _SERVICE: service, _TIMER: timer}
