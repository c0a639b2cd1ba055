"""Commands of the notebook's user by timers of systemd.

Root writes three files: a timer and a service, in which only the name, the times and the limit are from the playbook,
and a shell script with the command, which the service runs as the user. So systemd expands nothing of the command, and
root opens nothing of the user's: the script writes its log and its record as the user. In Studio the user's keeper runs
the same script (`nbprovision.services.schedule_keeper`).

Sources: systemd.timer(5), systemd.service(5), systemd.time(7).
"""

from __future__ import annotations

import json
import os
import shlex
from typing import Any

from nbprovision.root import tools

USER = "ec2-user"
SCRIPTS = "/etc/nbprovision/schedules/"
HEAD = "# nbprovision schedule: "
_UNITS = "/etc/systemd/system/"
_HOME = "/home/ec2-user/SageMaker/.nbprovision"
_SETTLE = 30  # seconds after the start of the timer, until a missed run is made up for
_SHOWN = 200  # characters of the command in its description

# The tool's own file has the rest; it is in the virtual environment of the user's, of whichever Python.
_RUNNER = '"$home"/venv*/lib/python3*/site-packages/nbprovision/services/schedule.sh'
_SCRIPT = """\
[ "${1-}" != now ] || missed=
%s
for runner in %s; do [ ! -f "$runner" ] || . "$runner"; done
mkdir -p "$home/schedules" && cd "$home/schedules" || exit
now=$(date +%%s)
printf '{"started": %%s, "ended": %%s, "status": 127, "reason": "tool"}\\n' $now $now >.$name.new
mv -f .$name.new $name.json
exit 1
"""


def differences(wanted: dict[str, Any], root: str) -> list[str]:
    """Say in what the schedule differs.

    Args:
        wanted: ``name``, ``state``, ``every`` (seconds, 0 for none), ``at``, ``missed``, ``words``, ``env``,
            ``environment``, ``limit`` (seconds); ``home``, the tool's home folder, where that is not in root's
            environment.
        root: The folder to take for ``/``.

    """
    files = _files(wanted)
    if wanted["state"] == "absent":
        return ["remove %s" % path for path in files if tools.read(path, root) is not None]
    wrong = ["write %s" % path for path, text in files.items() if tools.read(path, root) != text]
    return wrong or ["start the timer"] * (not tools.is_enabled(unit(wanted) + ".timer", "timers.target", root))


def bring_about(wanted: dict[str, Any]) -> None:
    """Write the files and start the timer, or take them away."""
    tools.need_systemd()
    files, name = _files(wanted), unit(wanted)
    if wanted["state"] == "absent":
        if tools.read(_UNITS + name + ".timer") is not None:
            tools.systemctl("disable", "--now", name + ".timer")
            tools.systemctl("stop", name + ".service")
        for path in files:
            tools.remove(path)
        tools.systemctl("daemon-reload")
        return
    for path, text in files.items():
        tools.write(path, text)
    tools.systemctl("daemon-reload")
    tools.systemctl("restart", name + ".timer")
    tools.systemctl("enable", name + ".timer")  # last: the link shows that all was done


def unit(wanted: dict[str, Any]) -> str:
    """Return the name of the units without their ending."""
    return "nbprovision-schedule-%s" % wanted["name"]


def script(wanted: dict[str, Any], runner: str = _RUNNER) -> str:
    """Return the script that runs the command as the user.

    Args:
        wanted: As for `differences`.
        runner: The path of ``schedule.sh``, as a word of the shell.

    """
    words = wanted["words"]
    content = {key: wanted[key] for key in ("name", "every", "at", "missed")}
    content["command"] = " ".join(" ".join(words[2:] if words[:2] == ["/bin/sh", "-c"] else words).split())[:_SHOWN]
    lines = ["#!/bin/sh", HEAD + json.dumps(content, sort_keys=True)]
    home = wanted.get("home") or os.environ.get("NBPROVISION_HOME") or _HOME
    for key, value in dict(wanted, home=home, missed="1" if wanted["missed"] else "").items():
        if key in ("home", "name", "env", "every", "at", "missed", "limit"):
            lines.append("%s=%s" % (key, shlex.quote(str(value))))
    variables = wanted["environment"]
    lines.append("names=%s\nvariables() {\n:" % shlex.quote(" ".join(variables)))
    lines += ["export %s=%s" % (key, shlex.quote(value)) for key, value in variables.items()]
    lines.append("}")
    return "\n".join(lines) + "\n" + _SCRIPT % ("set -- " + " ".join(map(shlex.quote, words)), runner)


def _files(wanted: dict[str, Any]) -> dict[str, str]:
    """Return the files of a schedule by their paths, the timer last; texts are empty where it is to be absent."""
    absent = wanted["state"] == "absent"
    files = {SCRIPTS + wanted["name"]: "" if absent else script(wanted)}
    files[_UNITS + unit(wanted) + ".service"] = "" if absent else _service(wanted)
    files[_UNITS + unit(wanted) + ".timer"] = "" if absent else _timer(wanted)
    return files


def _service(wanted: dict[str, Any]) -> str:
    return """\
[Service]
Type=oneshot
User=%s
Environment=HOME=/home/%s LANG=C.UTF-8 PATH=/usr/local/bin:/usr/bin:/bin
ExecStart=/bin/sh %s
TimeoutStartSec=%d
Nice=10
CPUWeight=20
IOWeight=20
""" % (USER, USER, SCRIPTS + wanted["name"], wanted["limit"] + 60)


def _timer(wanted: dict[str, Any]) -> str:
    """Return the timer.

    ``Persistent=`` would be of no use: its stamps are lost with the root volume. For a run that was missed, the timer
    starts the service soon after the machine, and the script looks into the record of its last run.
    """
    every, missed = wanted["every"], wanted["missed"]
    times = ["OnCalendar=" + wanted["at"]] if wanted["at"] else []
    if every:
        times.append("OnUnitActiveSec=%d" % (max(60, every // 10) if missed else every))
    if every or missed:
        times.append("OnActiveSec=%d" % (_SETTLE if missed else every))
    return """\
[Timer]
%s
AccuracySec=1s
[Install]
WantedBy=timers.target
""" % "\n".join(times)
