"""Rules about the trust between root, who runs a lifecycle script, and the notebook's user.

They concern notebook instances. In Studio the script runs as the user, who may become root at any time by `sudo`.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator

from nbprovision.lint.finding import Problem, script_rule
from nbprovision.lint.shell import Command
from nbprovision.lint.shell_writes import written_paths
from nbprovision.lint.subject import Script

_INTERPRETERS = re.compile(r"(?:ba|da|z|k)?sh|python[\d.]*|perl|ruby|node|Rscript")
_INLINE = ("-c", "-e", "-m")  # options with code or a module in the place of a file
_SOURCE = ("source", ".")
_PIP = re.compile(r"pip[\d.]*")
_NOTEBOOK_RUNNERS = ("jupyter", "jupyter-nbconvert", "papermill")
_UNIT_FOLDERS = re.compile(r"/(?:etc|usr/lib|lib|run)/systemd/system/")
_CRON_FILES = re.compile(r"/etc/cron|/var/spool/cron|/etc/rc\.local")
# What stands before the program or script in a line of cron: the schedule, an interpreter, another command's end.
_RUNS_NEXT = re.compile(
    r"(?:^|[*\d]|@\w+|\broot|\b(?:python[\d.]*|(?:ba|da)?sh|perl|node|source)(?:\s+-\w+)*|\$\{?\w+\}?|&&|;|\|\|)\s+['\"]?$"
)
_AS_USER = "run it as the user: sudo -u ec2-user COMMAND"

_CHANGE_OWNER = ("chown", "chgrp", "chmod")


@script_rule(
    "warning", "whoever can write the file is root at the next start: ec2-user, or a package that it installed"
)
def root_runs_user_files(script: Script) -> Iterable[Problem]:
    """Root runs a program, script or environment of the notebook user's.

    The user can write everything below /home/ec2-user, ``anaconda3`` included. A command within `sudo -u ec2-user` runs
    with the user's rights. Files that cron and systemd start as root count as well. Repair: `sudo -u ec2-user COMMAND`
    or `sudo -u ec2-user -i <<'EOF'`, and a copy outside of /home for a program that must run as root.
    """
    if script.platform != "notebook-instance":
        return
    for command in script.commands:
        if command.user == "root":
            path = next((place for place in _run_by(command) if _is_users(place, script)), "")
            if path:
                yield Problem(script.at_offset(command.at), f"root runs {path}, which ec2-user can write", _AS_USER)
        for path in _scheduled(command, script):
            cure = "let it run as the user: by ensure_schedule of a playbook, or by User=ec2-user in the unit"
            yield Problem(script.at_offset(command.at), f"root will run {path}, which ec2-user can write", cure)


def _run_by(command: Command) -> Iterator[str]:
    """The files that a command runs, as absolute paths."""
    if "/" in command.path:
        yield command.place(command.path)
    values = command.values
    if command.program in _SOURCE and values and "/" in values[0]:
        yield command.place(values[0])
    elif _INTERPRETERS.fullmatch(command.program) and not any(value[:2] in _INLINE for value in values[:1]):
        yield from map(command.place, command.operands[:1])
    elif command.program == "crontab" and command.operands and command.operands[0] != "-" and not command.has("-u"):
        yield command.place(command.operands[0])
    elif command.program in _NOTEBOOK_RUNNERS and (command.program == "papermill" or command.has("--execute")):
        yield from (command.place(value) for value in command.operands if value.endswith(".ipynb"))
    pip = _PIP.fullmatch(command.program) or (_INTERPRETERS.fullmatch(command.program) and values[:2] == ["-m", "pip"])
    if pip and "install" in values:
        for before, value in zip(["", *values], values, strict=False):
            if "/" in value and not value.startswith("-") and before not in ("-t", "--target", "--prefix", "--root"):
                yield command.place(value)


def _scheduled(command: Command, script: Script) -> Iterator[str]:
    """The user's files in the text that a command gives to root's cron, or to systemd."""
    files = [output.path for output in command.outputs] + (
        [command.place(value) for value in command.operands] if command.program == "tee" else []
    )
    in_cron = any(map(_CRON_FILES.match, files)) or (
        command.program == "crontab" and command.user == "root" and command.operands == ["-"]
    )
    if in_cron:
        text = written(command, script)
        for path in re.finditer(rf"{script.home}/[^\s'\"]+", text):
            if _RUNS_NEXT.search(text[: path.start()]):
                yield path[0]
                return
    elif any(map(_UNIT_FOLDERS.match, files)):
        text = written(command, script)
        match = re.search(rf"^ExecStart\w*=[-@+!:]*(?P<path>{script.home}/\S+)", text, re.MULTILINE)
        if match is not None and not re.search(r"^(?:User|DynamicUser)=", text, re.MULTILINE):
            yield match["path"]


def written(command: Command, script: Script) -> str:
    """Return the text that a command writes or reads: its data, or the words of the commands before it in its pipe."""
    texts = [command.data]
    for other in script.shell.beside(command):
        if other.start <= command.start:
            texts += [other.data, " ".join(other.values) if other.program in ("echo", "printf") else ""]
    return "\n".join(texts)


@script_rule("warning", "root follows a link that the user planted there, and what root makes belongs to root")
def root_in_home(script: Script) -> Iterable[Problem]:
    """Root creates, changes or mounts something below /home/ec2-user.

    Every path on the volume counts: `chmod` of a planted link makes a file of root's readable, `mount` hides a folder
    of the system. ``chown -R`` of a folder directly on the volume follows no link and is not reported. The rest of the
    home is new at each start, so that only files that stay root's are reported there. Repair: `sudo -u ec2-user` for
    files; for mounts a folder of root's, such as /mnt/NAME, to which the user links.
    """
    if script.platform != "notebook-instance":
        return
    mounts = {path for command in script.commands if command.program == "mount" for path in written_paths(command)}
    for command in script.commands:
        path = next((place for place in _written_by_root(command) if _is_reached_by_links(command, place, script)), "")
        if path:
            cure = _AS_USER
            if path in mounts:
                cure = "mount on a folder of root's: mkdir -p /mnt/NAME, to which the user links"
            yield Problem(script.at_offset(command.at), f"root writes to {path}", cure)


def _written_by_root(command: Command) -> Iterator[str]:
    """The absolute paths that a command opens to write, with root's rights."""
    if command.opener == "root":
        yield from (output.path for output in command.outputs)
    if command.user == "root":
        yield from written_paths(command)


def _is_users(path: str, script: Script) -> bool:
    return path.startswith(script.home + "/")


def _is_reached_by_links(command: Command, path: str, script: Script) -> bool:
    """Whether root may follow a link there, or leaves files of its own in the home."""
    if not _is_users(path, script):
        return path == script.home and command.program in ("wget", "curl", "unzip", "git")
    below = path.removeprefix(script.volume).strip("/") if f"{path}/".startswith(f"{script.volume}/") else None
    if below is None:
        adds = command.program in (*_CHANGE_OWNER, "mount", "sed") or _appends(command, path)
        return not adds and not _is_given_away(command, path, script)
    if command.program in _CHANGE_OWNER and command.has("-R", "--recursive"):
        return "/" in below or (path.endswith("/") and bool(below))
    return bool(below) or command.program not in _CHANGE_OWNER


def _appends(command: Command, path: str) -> bool:
    if command.program == "tee":
        return command.has("-a", "--append")
    return any(output.path == path and output.appends for output in command.outputs)


def _is_given_away(command: Command, path: str, script: Script) -> bool:
    """Whether a later `chown` gives the path, or a folder above it, to the user."""
    return any(
        later.program == "chown"
        and later.start > command.start
        and any(
            f"{path}/".startswith(later.place(value).rstrip("/") + "/")
            for value in later.operands[1:]
            if later.place(value)
        )
        for later in script.commands
    )
