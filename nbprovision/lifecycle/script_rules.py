"""Rules about lifecycle scripts: limits of the platform, and commands that work on one image only.

Sources: https://docs.aws.amazon.com/sagemaker/latest/dg/notebook-lifecycle-config.html and the images' release notes.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator

from nbprovision.conda.environment_rules import SERVER, VERSIONED
from nbprovision.lifecycle.start_rules import is_for_old_image
from nbprovision.lint.finding import Edit, Problem, script_rule
from nbprovision.lint.shell import Command
from nbprovision.lint.shell_text import Guard
from nbprovision.lint.subject import Script
from nbprovision.model.errors import Position
from nbprovision.system.plain_secrets import secrets_in_lines

LIMIT = 12_288  # bytes: 16,384 characters of base64

_MADE = re.compile(r"\b(?:conda|mamba|micromamba)\s+(?:env\s+)?create\b(?P<rest>.*)")
_ACTIVATED = re.compile(r"(?:^|[;&|]\s*)\s*conda\s+activate\b")
_HOOK = re.compile(r"conda\.sh\b|shell\.\w+\s+hook|conda\s+init\b|bin/activate\b|\bhook\b.*\|\s*source")
_CRON_FILE = re.compile(r"/etc/cron|/var/spool/cron")
_CRON_PACKAGES = frozenset(("cron", "cronie"))
_HARMLESS = ("", "unset", "export", "echo", "printf", "set", "true", ":", "cd", "shopt", "umask")
_VARIABLE = re.compile(r"\$\{?\w")
_INSTALL = r"(?:pip3?|conda|mamba|jupyter\s+\w+)\s+(?:install|enable|update)\b"
_INTO_SERVER = re.compile(rf"{_INSTALL}.*{SERVER}|{SERVER}/bin/pip|activate\s+\S*{SERVER}(?=(?:.*\n)*.*{_INSTALL})")
_OWN_CONDA = re.compile(r"(?=[\s\S]*SageMaker)[\s\S]*(?:mini(?:conda|forge)|micromamba)", re.IGNORECASE)
_VERSIONED_WORD = re.compile(r"(?<![\w.-])\w+_p\d{2,3}(?![\w-])")


@script_rule("error", "the platform accepts at most 16,384 characters of base64")
def too_large(script: Script) -> Iterable[Problem]:
    """A script of more than 12,288 bytes."""
    if len(script.data) > LIMIT:
        cure = "keep the work in a playbook on the volume or in S3: nbprovision lifecycle render"
        yield Problem(script.at(0), f"the script has {len(script.data):,} bytes", cure)


@script_rule(
    "error",
    "the kernel looks for an interpreter with a carriage return in its name, and the start times out",
    fixes=True,
)
def crlf(script: Script) -> Iterable[Problem]:
    """Line ends of Windows.

    One finding for the file.
    """
    ends = [match.start() for match in re.finditer(r"\r\n", script.text)]
    if ends:
        position = script.at(script.text.count("\n", 0, ends[0]))
        edits = tuple(Edit(start, start + 1, "") for start in ends)
        yield Problem(position, f"{len(ends)} lines end with CR LF", "save the file with LF line ends", edits=edits)


@script_rule(
    "error", "the console may change them; a dash or quotation mark of a word processor means nothing to a shell"
)
def not_ascii(script: Script) -> Iterable[Problem]:
    """Characters beyond ASCII; the first of each line is reported."""
    for number, line in enumerate(script.text.split("\n")):
        match = re.search(r"[^\x00-\x7f\ufeff]", line)
        if match is not None:
            yield Problem(script.at(number, match.start()), f"U+{ord(match[0]):04X} is not ASCII", "write it in ASCII")


@script_rule("warning", "the platform then chooses the shell, which may be another than the script needs", fixes=True)
def shebang(script: Script) -> Iterable[Problem]:
    """A first line that does not begin with `#!`.

    The repair removes blank lines and a byte-order mark before it. A `#!` below other lines is only a comment.
    """
    if not script.text.startswith("#!"):
        blank = re.match(r"[\ufeff\s]+(?=#!)", script.text)
        edits = (Edit(0, blank.end(), ""),) if blank else ()
        later = re.search(r"^#!\S*sh\b", script.text, re.MULTILINE)
        cure = "begin the file with #!/bin/bash"
        if later is not None and blank is None:
            cure = f"move line {script.text.count(chr(10), 0, later.start()) + 1} to the top"
        yield Problem(script.at(0), "the first line is not a #! line", cure, edits=edits)


@script_rule("warning", "the platform still waits five minutes for the script's children")
def nohup(script: Script) -> Iterable[Problem]:
    """`nohup` for work in the background; only a session of its own detaches."""
    for position in _calls(script, "nohup"):
        cure = "write setsid COMMAND </dev/null >LOG 2>&1 &"
        if script.platform == "notebook-instance":
            cure += ", or systemd-run COMMAND"
        yield Problem(position, "nohup does not detach", cure)


@script_rule("warning", "the image has another package manager, and the script fails with command not found")
def package_manager(script: Script) -> Iterable[Problem]:
    """`amazon-linux-extras` or `apt` on a notebook instance; `yum`, `dnf` or `amazon-linux-extras` in Studio.

    AL2023 has dnf, also by the name yum; the JupyterLab and Code Editor spaces of Studio have apt-get. A command under
    a condition that asks for the system or the command is not reported.
    """
    notebook = script.platform == "notebook-instance"
    absent = ("amazon-linux-extras", "apt", "apt-get") if notebook else ("yum", "dnf", "amazon-linux-extras")
    for command in script.commands:
        if command.program in absent and not any(_asks_for_system(guard) for guard in command.guards):
            present = "dnf" if notebook else "sudo apt-get"
            cure = f"write {present}, or better install it from conda-forge: ensure_conda_env"
            where = "an AL2023 notebook instance" if notebook else "a Studio space"
            yield Problem(script.at_offset(command.at), f"{where} has no {command.program}", cure)


def _asks_for_system(guard: Guard) -> bool:
    managers = re.search(r"\b(?:yum|dnf|apt|apt-get|amazon-linux-extras)\b", guard.text)
    return managers is not None or (guard.holds and re.search(r"VERSION|release|\bID\b", guard.text) is not None)


@script_rule("warning", "the image of AL2023 has no cron, and each restart deletes a crontab")
def cron(script: Script) -> Iterable[Problem]:
    """A crontab, or one of cron's files, in a script that does not install cron."""
    if any("install" in command.values and _CRON_PACKAGES.intersection(command.values) for command in script.commands):
        return
    cure = "write a task under root_tasks of a playbook: ensure_schedule: {name: NAME, every: 1h, shell: COMMAND}"
    reported: set[int] = set()
    for command in script.commands:
        files = [output.path for output in command.outputs] + [command.place(value) for value in command.operands]
        calls = command.program in ("crontab", "crond")
        if (calls or any(map(_CRON_FILE.match, files))) and (line := script.at_offset(command.at).line) not in reported:
            reported.add(line)
            why = "the image may lack it, and each restart deletes a crontab" if script.platform == "studio" else ""
            yield Problem(script.at_offset(command.at), "the script relies on cron", cure, why)


@script_rule("warning", "all other entries of the table are lost, and other scripts may rely on them")
def crontab_replaced(script: Script) -> Iterable[Problem]:
    """`crontab -`, `crontab FILE` or `crontab -r` without the entries that exist.

    Repair: `(crontab -l 2>/dev/null; echo ENTRY) | crontab -`, or a file of its own in /etc/cron.d.
    """
    for command in script.commands:
        if command.program != "crontab" or command.has("-l", "-e"):
            continue
        listed = any(
            other.program == "crontab"
            and other.has("-l")
            and (other.statement == command.statement or any(output.path for output in other.outputs))
            for other in script.commands
            if other.start < command.start
        )
        if not listed and (command.operands or command.has("-r") or command.before in ("|", "|&")):
            cure = "keep the others: (crontab -l 2>/dev/null; echo ENTRY) | crontab -"
            yield Problem(script.at_offset(command.at), "it replaces the whole table", cure)


@script_rule("warning", "the command was part of AL1, and later images lack it")
def initctl(script: Script) -> Iterable[Problem]:
    """`initctl`, or Upstart's `start`, `stop`, `restart` and `status`.

    Not under a condition that only AL1 fulfils.
    """
    for command in script.commands:
        upstart = command.program in ("start", "stop", "restart", "status") and command.path == command.program
        absent = command.program == "initctl" or (upstart and command.arguments)
        if absent and not is_for_old_image(command) and command.program not in script.shell.functions:
            yield Problem(script.at_offset(command.at), f"the image has no {command.program}", "write systemctl")


@script_rule("warning", "image changes rename environments, and the current image has other names")
def hard_coded_environment(script: Script) -> Iterable[Problem]:
    """An environment of an older image by its full name, such as `pytorch_p310`."""
    for position, word in _matches(script, _VERSIONED_WORD):
        match = VERSIONED.fullmatch(word[0])
        if match is not None:
            message = f"'{word[0]}' is the environment's name on one image only"
            cure = (
                f"use the existing name: for env in /home/ec2-user/anaconda3/envs/{match[1].rstrip('2')}*; do ...; done"
            )
            yield Problem(position, message, cure)


@script_rule("warning", "the Jupyter server runs from this environment: breaking it breaks the notebook")
def jupyter_server_environment(script: Script) -> Iterable[Problem]:
    """A package for JupyterSystemEnv, or a loop over all environments, this one included."""
    text = "\n".join(script.lines)
    for match in _INTO_SERVER.finditer(text):
        line = text.count("\n", 0, match.start())
        position = script.at(line, match.start() - text.rfind("\n", 0, match.start()) - 1)
        yield Problem(position, f"it changes {SERVER}", "use another environment")
    for position, match in _matches(script, re.compile(r"for\s+(?P<name>\w+)\s+in\s+[^;]*anaconda3/envs/\*")):
        # The loop's variable is a whole path, which is never equal to the bare name.
        never = re.search(rf"\$\{{?{match['name']}\}}?[\"']?\s*==?\s*[\"']?{SERVER}", text)
        if never or not re.search(rf"basename[\s\S]{{0,200}}{SERVER}|/{SERVER}|\*{SERVER}|%/\*|##\*/", text):
            message = f"the loop takes {SERVER} as well: it compares whole paths"
            yield Problem(position, message, f'leave it out: [ "$(basename "$env")" = {SERVER} ] && continue')


@script_rule("warning", "only /home/ec2-user/SageMaker survives a restart: each start creates the environment again")
def environment_outside_volume(script: Script) -> Iterable[Problem]:
    """An environment that conda creates outside the volume.

    A path in a variable is not judged, nor is a script that installs its own conda on the volume.
    """
    for position, match in _matches(script, _MADE) if not _OWN_CONDA.match(script.text) else ():
        prefix = re.search(r"(?:-p|--prefix)[\s=]+(\S+)", match["rest"])
        if prefix is None or not ("SageMaker" in prefix[1] or _VARIABLE.search(prefix[1])):
            cure = "write --prefix /home/ec2-user/SageMaker/envs/NAME, or ensure_conda_env in a playbook"
            yield Problem(position, "the environment does not survive a restart", cure)


@script_rule("warning", "it fails with CommandNotFoundError: a script's shell does not read .bashrc")
def activate_without_hook(script: Script) -> Iterable[Problem]:
    """`conda activate` in a shell without that function: before the first line that sets conda up."""
    hook = next((position.line for position, _ in _matches(script, _HOOK)), len(script.lines) + 1)
    for position, _ in _matches(script, _ACTIVATED):
        if position.line < hook:
            cure = "write before it, in the user's shell: source /home/ec2-user/anaconda3/etc/profile.d/conda.sh"
            if script.platform == "studio":
                cure = 'write before it: eval "$(conda shell.bash hook)"'
            yield Problem(position, "conda is not set up in this shell", cure)


@script_rule("warning", "an outer `set -e` does not apply to it: failures are lost, and the script ends with 0")
def lost_failure(script: Script) -> Iterable[Problem]:
    """A script within `sudo ... <<EOF` that continues after a failure.

    One that contains a single command besides assignments is not reported: its status is the shell's.
    """
    inner: dict[int, list[Command]] = {}
    for command in script.commands:
        if not command.substituted:
            inner.setdefault(command.within, []).append(command)
    for command in script.commands:
        within = (
            inner.get(command.start, []) if not command.substituted and command.wrappers and not command.tested else []
        )
        failing = [
            other
            for other in within
            if other.program not in _HARMLESS and not other.tested and other.level > command.level
        ]
        heredoc = command.data and command.program in ("", "sh", "bash") and not command.operands
        if heredoc and len(failing) > 1 and not failing[0].errexit:
            yield Problem(
                script.at_offset(command.start),
                "the inner shell continues after a failure",
                "write set -eu as its first line",
            )


@script_rule("warning", "everybody who may describe the lifecycle configuration can read it")
def plain_secret(script: Script) -> Iterable[Problem]:
    """A password or token in the script's text.

    Recognised by its own form, or by the variable's name. The message never shows the value.
    """
    for line, secret in secrets_in_lines("\n".join(script.lines)):
        cure = "fetch it when it runs: aws secretsmanager get-secret-value"
        yield Problem(script.at(line, secret.start), f"{secret.what} is in plain text", cure)


def _calls(script: Script, *names: str) -> Iterator[Position]:
    for command in script.commands:
        yield from (script.at_offset(wrapper.start) for wrapper in command.wrappers if wrapper.value in names)
        if command.program in names:
            yield script.at_offset(command.at)


def _matches(script: Script, pattern: re.Pattern[str]) -> Iterator[tuple[Position, re.Match[str]]]:
    for number, line in enumerate(script.lines):
        yield from ((script.at(number, match.start()), match) for match in pattern.finditer(line))
