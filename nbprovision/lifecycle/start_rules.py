"""Rules about the start of a notebook: commands that keep it from starting, end it, or work at its first start only."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator

from nbprovision.lint.finding import Problem, script_rule
from nbprovision.lint.git_clone import clone_of
from nbprovision.lint.shell import Command
from nbprovision.lint.subject import Script

_RESTART = ("restart", "stop", "start", "try-restart", "reload-or-restart")
_LOG = re.compile(r"\.(?:log|out|err)$|(?:^|[._/-])logs?(?:$|[._/-])", re.IGNORECASE)
_PRINTERS = ("echo", "printf", "cat")
_FILE_TEST = re.compile(r"(?:^|\s)-[defhLrsx]\s|\bgrep\b")
# Commands with another status than 0 in the ordinary course: nothing matches, no process has the name.
_FINDERS = ("grep", "egrep", "fgrep", "zgrep", "pgrep", "pkill", "killall", "kill")
_TESTS = ("test", "[", "[[", "diff", "cmp", "which")
_ENDS = "if it finds nothing, its status ends the script, and the notebook does not start"


@script_rule("warning", "a lifecycle script runs while the notebook starts: it never starts, or starts again and again")
def reboot(script: Script) -> Iterable[Problem]:
    """`reboot`, `shutdown`, `poweroff` or `halt`.

    A notebook instance that reboots within its script has no proper start. Repair: remove it; new sessions read
    /etc/profile.d and the user's files without it, and StopNotebookInstance stops an instance.
    """
    for command in script.commands:
        values = command.values
        by_systemd = command.program == "systemctl" and bool({"reboot", "poweroff", "halt", "kexec"} & set(values))
        by_init = command.program in ("init", "telinit") and values[:1] in (["0"], ["6"])
        if (
            (command.program in ("reboot", "shutdown", "poweroff", "halt") and "-c" not in values)
            or by_systemd
            or by_init
        ):
            cure = "remove it: Jupyter and new terminals start after the script and read its settings"
            yield Problem(script.at_offset(command.at), "the script ends the machine that it prepares", cure)


@script_rule("warning", "on-start runs before Jupyter: a restart there breaks the platform's own authentication")
def restart_jupyter(script: Script) -> Iterable[Problem]:
    """A restart of Jupyter on a notebook instance.

    In the foreground the script also waits for a server that may wait for the script. Studio's own
    `restart-jupyter-server` is not reported. Repair: remove it; Jupyter starts after on-start.
    """
    if script.platform != "notebook-instance":
        return
    for command in script.commands:
        by_name = command.program in ("systemctl", "service", "initctl")
        verbs, jupyter = set(_RESTART) & set(command.values), [value for value in command.values if "jupyter" in value]
        if by_name and verbs and jupyter and not is_for_old_image(command):
            waits = command.program != "initctl" and not command.has("--no-block") and command.after != "&"
            message = "the script restarts Jupyter" + (" and waits for it" if waits else "")
            cure = "remove it: Jupyter finds kernels and settings when it starts"
            yield Problem(script.at_offset(command.at), message, cure)


def is_for_old_image(command: Command) -> bool:
    """Whether a command runs under a condition that only AL1 fulfils, which no notebook has any more."""
    return any(
        guard.holds and re.search(r"amazon-linux-ami|2018\.03|command -v initctl|which initctl", guard.text)
        for guard in command.guards
    )


@script_rule("warning", "on-start runs at each start, and this folder keeps what the last start made")
def second_start(script: Script) -> Iterable[Problem]:
    """A command that works at the first start only, or adds the same again at each.

    In the folder that survives a restart (/home/ec2-user/SageMaker; in Studio the home): `mkdir` without `-p` under
    `set -e`, `git clone`, `ln -s` without `-f`, and text that `>>` or `tee -a` appends to a file that is not a log.
    Everything else is new at each start. Commands under a condition are not reported, nor is a script for on-create.
    Repair: `mkdir -p`, `ln -sfn`, `[ -d FOLDER ] || git clone ...`, `grep -qxF LINE FILE || echo LINE >> FILE`.
    """
    if script.runs_once:
        return
    reported: set[str] = set()
    for command in script.commands:
        if command.program == "exit" and any(_FILE_TEST.search(guard.text) for guard in command.guards):
            return  # it has found what an earlier start made
        if command.conditional or command.substituted:
            continue
        for path, message, cure in _repeated(command):
            kept = f"{path}/".startswith(f"{script.volume}/") and path.rstrip("/") != script.volume
            if kept and path not in reported and not _is_emptied(command, path, script):
                reported.add(path)
                yield Problem(script.at_offset(command.at), message.format(path), cure)


def _repeated(command: Command) -> Iterator[tuple[str, str, str]]:
    """The paths of a command that a second run finds, each with a message and a cure."""
    operands = command.operands
    if command.program == "mkdir" and (command.errexit or command.last) and not command.has("-p", "--parents"):
        for value in operands:
            yield command.place(value), "at the second start {} exists, and mkdir fails", "write mkdir -p"
    elif command.program == "ln" and command.has("-s", "--symbolic") and not command.has("-f", "--force"):
        if len(operands) > 1:
            yield command.place(operands[-1]), "at the second start {} exists, and ln fails", "write ln -sfn"
    elif (clone := clone_of(command)) is not None:
        cure = "write [ -d FOLDER ] || git clone URL FOLDER, or ensure_git_repo in a playbook"
        yield clone.path, "at the second start {} exists, and git clone fails", cure
    message, cure = (
        "each start appends the same to {}",
        "write grep -qxF LINE FILE || echo LINE >> FILE, or ensure_line",
    )
    if command.program == "tee" and command.has("-a", "--append"):
        yield from ((path, message, cure) for path in map(command.place, operands) if not _LOG.search(path))
    elif command.program in _PRINTERS:
        for output in command.outputs:
            if output.appends and not _LOG.search(output.path):
                yield output.path, message, cure


def _is_emptied(command: Command, path: str, script: Script) -> bool:
    """Whether the script removes the file, or writes all of it, before the command."""
    for other in script.commands:
        if other.start < command.start:
            if any(output.path == path and not output.appends for output in other.outputs):
                return True
            places = [other.place(value) for value in other.operands]
            if other.program in ("rm", "mv", "unlink") and any(
                place and f"{path}/".startswith(place.rstrip("/*") + "/") for place in places
            ):
                return True
            if path in places and (
                other.program in ("cp", "truncate") or (other.program == "tee" and not other.has("-a"))
            ):
                return True
    return False


@script_rule("warning", "the notebook starts only if the script ends with 0")
def fails_the_start(script: Script) -> Iterable[Problem]:
    """A command whose ordinary answer ends the script with another status than 0.

    At the script's end: `grep`, `pkill`, `[ ... ]`, and `[ ... ] && COMMAND`. Under `set -e` anywhere: `grep`, `pgrep`,
    `pkill` and `kill` whose status nothing takes. Functions and groups are left out, since others may take theirs, and
    so is a `grep` under a condition, which may ask for what it finds. Repair: `|| true` behind it, `if ...; then ...;
    fi`, or a last line `exit 0`.
    """
    ends = {command.shell for command in script.commands if command.level == 0} | set(_deciding_shells(script))
    for command in script.commands:
        if command.tested or command.grouped or command.program in script.shell.functions:
            continue
        position = script.at_offset(command.start)
        if command.last and command.shell in ends and not command.substituted:
            guard = command.guards[-1].text if command.before == "&&" and command.guards else ""
            if command.program in (*_FINDERS, *_TESTS):
                yield Problem(
                    position, f"the script ends with the status of {command.program}", "write || true behind it", _ENDS
                )
            elif re.match(r"\[|test\s|e?grep\s|pgrep\s|!", guard):
                why = "if the condition is false, so is the script's status, and the notebook does not start"
                yield Problem(position, "the script ends with a condition", "write if ...; then ...; fi", why)
        elif command.guards and "grep" in command.program:
            continue
        elif command.program in _FINDERS and _ends_its_script(command, script, ends):
            yield Problem(
                position, f"under set -e, {command.program} ends the script", "write || true behind it", _ENDS
            )


def _deciding_shells(script: Script) -> Iterator[int]:
    """The inner shells whose status becomes that of the script: the last command, or one under `set -e`."""
    deciding = {0: True}
    by_start = {command.start: command for command in script.commands if not command.substituted}
    shells = {command.shell: command for command in script.commands}
    for shell, command in sorted(shells.items()):
        outer = by_start.get(command.within)
        if command.level == 0:
            deciding[shell] = True
        elif (
            outer is not None
            and not command.substituted
            and not outer.tested
            and deciding.get(outer.shell)
            and (outer.errexit or outer.last)
        ):
            deciding[shell] = True
            yield shell


def _ends_its_script(command: Command, script: Script, ends: set[int]) -> bool:
    """Whether `set -e` ends the script with the command's status."""
    if not command.substituted:
        return command.errexit and command.shell in ends
    if not command.last:
        return False
    outer = script.shell.outer.get(command.within)
    return (
        outer is not None
        and not outer.program
        and outer.errexit
        and not outer.tested
        and not outer.grouped
        and not outer.substituted
        and outer.shell in ends
    )
