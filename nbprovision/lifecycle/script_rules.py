"""Rules about lifecycle scripts: what the platform takes, and what works on one image only.

Sources: https://docs.aws.amazon.com/sagemaker/latest/dg/notebook-lifecycle-config.html and the images' release notes.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator

from nbprovision.conda.environment_rules import SERVER, VERSIONED
from nbprovision.files.command_rules import RESTART, programs
from nbprovision.lint.finding import Edit, Found, rule
from nbprovision.lint.subject import Script
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
_VERSIONED_WORD = re.compile(r"(?<![\w.-])(?P<name>\w+_p\d{2,3})(?![\w-])")


@rule(
    "script-too-large",
    "error",
    f"a script of more than {LIMIT:,} bytes",
    "the platform accepts at most 16,384 characters of base64",
    about="script",
)
def too_large(script: Script) -> Iterable[Found]:
    """Its bytes, before base64."""
    if len(script.data) > LIMIT:
        yield Found(
            position=script.at(0),
            message=f"the script has {len(script.data):,} bytes",
            cure="keep the work in a playbook on the volume or in S3: nbprovision lifecycle render",
        )


@rule(
    "script-crlf",
    "error",
    "line ends of Windows",
    "the kernel looks for an interpreter with a carriage return in its name, and the start times out",
    about="script",
    fixes=True,
)
def crlf(script: Script) -> Iterable[Found]:
    """One finding for all of them."""
    ends = [match.start() for match in re.finditer(r"\r\n", script.text)]
    if ends:
        yield Found(
            position=script.at(script.text.count("\n", 0, ends[0])),
            message=f"{len(ends)} lines end with CR LF",
            cure="save the file with LF line ends",
            edits=tuple(Edit(start, start + 1, "") for start in ends),
        )


@rule(
    "script-not-ascii",
    "error",
    "characters beyond ASCII",
    "the console may change them; a dash or quotation mark of a word processor means nothing to a shell",
    about="script",
)
def not_ascii(script: Script) -> Iterable[Found]:
    """The first of each line."""
    for number, line in enumerate(script.text.split("\n")):
        column_found = next(
            (column for column, letter in enumerate(line) if ord(letter) > 127 and letter != "\ufeff"), None
        )
        if column_found is not None:
            yield Found(
                position=script.at(number, column_found),
                message=f"U+{ord(line[column_found]):04X} is not ASCII",
                cure="write it in ASCII",
            )


@rule(
    "script-shebang",
    "error",
    "a first line that does not begin with `#!`",
    "the script is not started",
    about="script",
    fixes=True,
)
def shebang(script: Script) -> Iterable[Found]:
    """Blank lines and a byte order mark in front of it are removed."""
    if script.text.startswith("#!"):
        return
    blank = re.match(r"[\ufeff\s]+(?=#!)", script.text)
    yield Found(
        position=script.at(0),
        message="the first line is not a #! line",
        cure="begin the file with #!/bin/bash",
        edits=(Edit(0, blank.end(), ""),) if blank else (),
    )


@rule(
    "script-nohup",
    "warning",
    "`nohup` for work in the background",
    "the platform still waits five minutes for the script's children",
    about="script",
)
def nohup(script: Script) -> Iterable[Found]:
    """A session of its own detaches."""
    for line, column in _calls(script, "nohup"):
        yield Found(
            position=script.at(line, column),
            message="nohup does not detach",
            cure="write: setsid COMMAND &, or systemd-run COMMAND",
        )


@rule(
    "script-package-manager",
    "warning",
    "`yum`, `amazon-linux-extras`, `apt`",
    "AL2023 has dnf, and neither amazon-linux-extras nor apt; each restart removes the packages that they install",
    about="script",
)
def package_manager(script: Script) -> Iterable[Found]:
    """Of images that are no more."""
    for line, column in _calls(script, "yum", "amazon-linux-extras", "apt", "apt-get"):
        yield Found(
            position=script.at(line, column),
            message="the current image has another command",
            cure="write dnf, or better install it from conda-forge: ensure_conda_env",
        )


@rule(
    "script-cron",
    "warning",
    "cron",
    "the image of AL2023 has no cron, and each restart deletes a crontab",
    about="script",
)
def cron(script: Script) -> Iterable[Found]:
    """``crontab``, and files of cron's."""
    places = [(line, column) for line, column in _calls(script, "crontab", "crond")]
    places += [(line, match.start()) for line, match in _matches(script, re.compile(r"/etc/cron|/var/spool/cron"))]
    for line, column in {line: (line, column) for line, column in reversed(places)}.values():
        yield Found(position=script.at(line, column), message="the script relies on cron", cure="write a systemd timer")


@rule("script-initctl", "warning", "`initctl`", "the command was part of AL1, and later images lack it", about="script")
def initctl(script: Script) -> Iterable[Found]:
    """Of AL1."""
    for line, column in _calls(script, "initctl"):
        yield Found(position=script.at(line, column), message="the image has no initctl", cure="write systemctl")


@rule(
    "script-restart-jupyter",
    "warning",
    "a restart of Jupyter",
    "on-start runs before Jupyter: a restart there breaks the platform's own authentication",
    about="script",
)
def restart_jupyter(script: Script) -> Iterable[Found]:
    """By any service manager."""
    for line, match in _matches(script, RESTART):
        yield Found(
            position=script.at(line, match.start()),
            message="the script restarts Jupyter",
            cure="remove it: Jupyter finds kernels and settings when it starts",
        )


@rule(
    "script-hard-coded-environment",
    "warning",
    "an environment of an older image by its full name, such as `pytorch_p310`",
    "image changes rename environments, and the current image has other names",
    about="script",
)
def hard_coded_environment(script: Script) -> Iterable[Found]:
    """Anywhere in the script."""
    for line, word in _matches(script, _VERSIONED_WORD):
        match = VERSIONED.fullmatch(word["name"])
        if match is not None:
            yield Found(
                position=script.at(line, word.start("name")),
                message=f"'{word['name']}' is the environment's name on one image only",
                cure=f"use the existing name: for env in ~/anaconda3/envs/{match[1].rstrip('2')}*; do ...; done",
            )


@rule(
    "script-jupyter-server-environment",
    "warning",
    "a package for JupyterSystemEnv, or a loop over all environments, this one included",
    "the Jupyter server runs from this environment: breaking it breaks the notebook",
    about="script",
)
def jupyter_server_environment(script: Script) -> Iterable[Found]:
    """An install into it; and the comparison of a whole path with its bare name, which never holds."""
    text = "\n".join(script.lines)
    for match in _INTO_SERVER.finditer(text):
        line = text.count("\n", 0, match.start())
        yield Found(
            position=script.at(line, match.start() - script.offset(line)),
            message=f"it changes {SERVER}",
            cure="use another environment",
        )
    for line, match in _matches(script, re.compile(r"for\s+(?P<name>\w+)\s+in\s+[^;]*anaconda3/envs/\*")):
        # The loop's variable is a whole path, which is never equal to the bare name.
        never = re.search(rf"\$\{{?{match['name']}\}}?[\"']?\s*==?\s*[\"']?{SERVER}", text)
        if never or not re.search(rf"basename[\s\S]{{0,200}}{SERVER}|/{SERVER}|\*{SERVER}|%/\*|##\*/", text):
            yield Found(
                position=script.at(line, match.start()),
                message=f"the loop takes {SERVER} as well: it compares whole paths",
                cure=f'leave it out: [ "$(basename "$env")" = {SERVER} ] && continue',
            )


@rule(
    "script-environment-outside-volume",
    "warning",
    "an environment that conda creates outside the volume",
    "only /home/ec2-user/SageMaker survives a restart: each start creates the environment again, within five minutes",
    about="script",
)
def environment_outside_volume(script: Script) -> Iterable[Found]:
    """By name, or by another path; a path in a variable is not judged, nor is a conda of one's own on the volume."""
    for line, match in _matches(script, _MADE) if not _OWN_CONDA.match(script.text) else ():
        place = re.search(r"(?:-p|--prefix)[\s=]+(\S+)", match["rest"])
        if place is None or not ("SageMaker" in place[1] or _VARIABLE.search(place[1])):
            yield Found(
                position=script.at(line, match.start()),
                message="the environment does not survive a restart",
                cure="write --prefix /home/ec2-user/SageMaker/envs/NAME, or ensure_conda_env in a playbook",
            )


@rule(
    "script-activate-without-hook",
    "warning",
    "`conda activate` in a shell without that function",
    "it fails with CommandNotFoundError: a script's shell does not read .bashrc",
    about="script",
)
def activate_without_hook(script: Script) -> Iterable[Found]:
    """Before the first line that sets conda up."""
    hook = next((line for line, _ in _matches(script, _HOOK)), len(script.lines))
    for line, match in _matches(script, _ACTIVATED):
        if line < hook:
            yield Found(
                position=script.at(line, match.start()),
                message="conda is not set up in this shell",
                cure="write before it: source /home/ec2-user/anaconda3/etc/profile.d/conda.sh",
            )


@rule(
    "script-lost-failure",
    "warning",
    "a script within `sudo ... <<EOF` that does not begin with `set -e`",
    "an outer `set -e` does not apply to it: failures are lost, and the script ends with 0",
    about="script",
)
def lost_failure(script: Script) -> Iterable[Found]:
    """The first lines of the inner script."""
    for line, match in _matches(script, _INNER):
        inner = script.lines[line + 1 : line + 6]
        end = next((number for number, text in enumerate(inner) if text.strip() == match["word"]), len(inner))
        if not any(re.match(r"\s*set\s+-\w*e", text) for text in inner[:end]):
            yield Found(
                position=script.at(line, match.start()),
                message="the inner shell continues after a failure",
                cure="write set -eu as its first line",
            )


@rule(
    "script-plain-secret",
    "warning",
    "a password or token in the script's text",
    "everybody who may describe the lifecycle configuration can read it",
    about="script",
)
def plain_secret(script: Script) -> Iterable[Found]:
    """By its own form, or given to a variable of such a name. The value itself is never shown."""
    for line, secret in secrets_in_lines("\n".join(script.lines)):
        yield Found(
            position=script.at(line, secret.start),
            message=f"{secret.what} is in plain text",
            cure="fetch it when it runs: aws secretsmanager get-secret-value",
        )


def _calls(script: Script, *names: str) -> Iterator[tuple[int, int]]:
    for number, line in enumerate(script.lines):
        for program, column in programs(line):
            if program in names:
                yield number, column


def _matches(script: Script, pattern: re.Pattern[str]) -> Iterator[tuple[int, re.Match[str]]]:
    for number, line in enumerate(script.lines):
        yield from ((number, match) for match in pattern.finditer(line))
