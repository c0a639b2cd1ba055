"""Rules about lifecycle scripts: limits of the platform, and commands that work on one image only.

Sources: https://docs.aws.amazon.com/sagemaker/latest/dg/notebook-lifecycle-config.html and the images' release notes.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator

from nbprovision.conda.environment_rules import SERVER, VERSIONED
from nbprovision.files.command_rules import RESTART, programs
from nbprovision.lint.finding import Edit, Problem, script_rule
from nbprovision.lint.subject import Script
from nbprovision.model.errors import Position
from nbprovision.system.plain_secrets import secrets_in_lines

LIMIT = 12_288  # bytes: 16,384 characters of base64

_MADE = re.compile(r"\b(?:conda|mamba|micromamba)\s+(?:env\s+)?create\b(?P<rest>.*)")
_ACTIVATED = re.compile(r"(?:^|[;&|]\s*)\s*conda\s+activate\b")
_HOOK = re.compile(r"conda\.sh\b|shell\.\w+\s+hook|conda\s+init\b|bin/activate\b|\bhook\b.*\|\s*source")
_INNER = re.compile(r"\bsudo\b[^\n]*<<-?\s*(?P<quote>['\"]?)(?P<word>\w+)(?P=quote)")
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


@script_rule("error", "the script is not started", fixes=True)
def shebang(script: Script) -> Iterable[Problem]:
    """A first line that does not begin with `#!`.

    The repair removes blank lines and a byte-order mark before it.
    """
    if not script.text.startswith("#!"):
        blank = re.match(r"[\ufeff\s]+(?=#!)", script.text)
        edits = (Edit(0, blank.end(), ""),) if blank else ()
        yield Problem(script.at(0), "the first line is not a #! line", "begin the file with #!/bin/bash", edits=edits)


@script_rule("warning", "the platform still waits five minutes for the script's children")
def nohup(script: Script) -> Iterable[Problem]:
    """`nohup` for work in the background; only a session of its own detaches."""
    for position in _calls(script, "nohup"):
        yield Problem(position, "nohup does not detach", "write: setsid COMMAND &, or systemd-run COMMAND")


@script_rule("warning", "AL2023 has only dnf of these, and each restart removes the packages that it installs")
def package_manager(script: Script) -> Iterable[Problem]:
    """`yum`, `amazon-linux-extras`, `apt`."""
    for position in _calls(script, "yum", "amazon-linux-extras", "apt", "apt-get"):
        cure = "write dnf, or better install it from conda-forge: ensure_conda_env"
        yield Problem(position, "the current image has another command", cure)


@script_rule("warning", "the image of AL2023 has no cron, and each restart deletes a crontab")
def cron(script: Script) -> Iterable[Problem]:
    """A crontab, or one of cron's files."""
    files = (position for position, _ in _matches(script, re.compile(r"/etc/cron|/var/spool/cron")))
    reported: set[int] = set()
    for position in (*_calls(script, "crontab", "crond"), *files):
        if position.line not in reported:
            reported.add(position.line)
            yield Problem(position, "the script relies on cron", "write a systemd timer")


@script_rule("warning", "the command was part of AL1, and later images lack it")
def initctl(script: Script) -> Iterable[Problem]:
    """`initctl`."""
    for position in _calls(script, "initctl"):
        yield Problem(position, "the image has no initctl", "write systemctl")


@script_rule("warning", "on-start runs before Jupyter: a restart there breaks the platform's own authentication")
def restart_jupyter(script: Script) -> Iterable[Problem]:
    """A restart of Jupyter."""
    for position, _ in _matches(script, RESTART):
        cure = "remove it: Jupyter finds kernels and settings when it starts"
        yield Problem(position, "the script restarts Jupyter", cure)


@script_rule("warning", "image changes rename environments, and the current image has other names")
def hard_coded_environment(script: Script) -> Iterable[Problem]:
    """An environment of an older image by its full name, such as `pytorch_p310`."""
    for position, word in _matches(script, _VERSIONED_WORD):
        match = VERSIONED.fullmatch(word[0])
        if match is not None:
            message = f"'{word[0]}' is the environment's name on one image only"
            cure = f"use the existing name: for env in ~/anaconda3/envs/{match[1].rstrip('2')}*; do ...; done"
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
            cure = "write before it: source /home/ec2-user/anaconda3/etc/profile.d/conda.sh"
            yield Problem(position, "conda is not set up in this shell", cure)


@script_rule("warning", "an outer `set -e` does not apply to it: failures are lost, and the script ends with 0")
def lost_failure(script: Script) -> Iterable[Problem]:
    """A script within `sudo ... <<EOF` that does not begin with `set -e`."""
    for position, match in _matches(script, _INNER):
        inner = script.lines[position.line : position.line + 5]
        end = next((number for number, text in enumerate(inner) if text.strip() == match["word"]), len(inner))
        if not any(re.match(r"\s*set\s+-\w*e", text) for text in inner[:end]):
            yield Problem(position, "the inner shell continues after a failure", "write set -eu as its first line")


@script_rule("warning", "everybody who may describe the lifecycle configuration can read it")
def plain_secret(script: Script) -> Iterable[Problem]:
    """A password or token in the script's text.

    Recognised by its own form, or by the variable's name. The message never shows the value.
    """
    for line, secret in secrets_in_lines("\n".join(script.lines)):
        cure = "fetch it when it runs: aws secretsmanager get-secret-value"
        yield Problem(script.at(line, secret.start), f"{secret.what} is in plain text", cure)


def _calls(script: Script, *names: str) -> Iterator[Position]:
    for number, line in enumerate(script.lines):
        yield from (script.at(number, column) for program, column in programs(line) if program in names)


def _matches(script: Script, pattern: re.Pattern[str]) -> Iterator[tuple[Position, re.Match[str]]]:
    for number, line in enumerate(script.lines):
        yield from ((script.at(number, match.start()), match) for match in pattern.finditer(line))
