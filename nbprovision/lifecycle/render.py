"""A lifecycle script from options: root's part and the notebook user's part in one file that the platform accepts.

Limits: https://docs.aws.amazon.com/sagemaker/latest/dg/notebook-lifecycle-config.html (16,384 characters of base64,
five minutes). The template is ``script.sh`` beside this module.
"""

from __future__ import annotations

import base64
import gzip
import re
import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Literal

import msgspec

from nbprovision import __version__
from nbprovision.model.errors import UsageError

# Its base64 has exactly the 16,384 characters that the platform takes.
MAX_BYTES = 12_288
# The platform ends a script after 300 seconds; what is between is for the platform's own steps.
DEFAULT_SECONDS = 240
# Of the budget, what is left for ending: telling the reason, leaving.
_RESERVE = 5

_TEMPLATE = Path(__file__).with_name("script.sh")
_BOOTSTRAP = Path(__file__).with_name("bootstrap.sh")

# The lines that only root can write. Static: nothing of it is read from anywhere when it runs.
_PROFILE = """\
    # On the PATH of every terminal of this user; last there, and never on root's.
    /usr/bin/cat >/etc/profile.d/nbprovision.sh <<'NBPROVISION-END'
if [ "$(/usr/bin/id -un)" = @USER@ ]; then PATH=$PATH:@HOME@/bin; fi
NBPROVISION-END"""

_FETCH = """\
fetch() { # what `aws s3` is told; it must not wait for a network that is not there
    AWS_MAX_ATTEMPTS=2 timeout 60 aws --cli-connect-timeout 5 --cli-read-timeout 20 s3 "$@"
}"""

# Where nobody is root, the user's own folder of programs has to do.
_LINK = """\
    mkdir -p "$HOME/.local/bin" && ln -sfn "$home/venv/bin/nbprovision" "$HOME/.local/bin/nbprovision\""""


class Places(msgspec.Struct, frozen=True):
    """Whose machine it is: the user, their home folder, the tool's home folder."""

    user: str
    user_home: str
    home: str


PLATFORMS = {
    "notebook-instance": Places("ec2-user", "/home/ec2-user", "/home/ec2-user/SageMaker/.nbprovision"),
    "studio": Places("sagemaker-user", "/home/sagemaker-user", "/home/sagemaker-user/.local/state/nbprovision"),
}


class Wanted(msgspec.Struct, frozen=True, kw_only=True):
    """What the script is to do.

    Attributes:
        playbook: A path on the machine, an ``s3://`` URL, or, with ``inline``, the playbook's content.
        inline: ``playbook`` is content.
        tool: A requirement for pip's index, the path of a folder of wheels or a wheel on the machine, or an ``s3://``
            URL that wheels lie under; None for this version from pip's index.
        index_url: The package index that the tool comes from, and the playbook's packages unless it says otherwise.
        on_create: The script runs once, when the instance is created, instead of at every start.
        strict: A failure keeps the notebook from starting.
        seconds: The time that all of it may take.
        platform: The kind of machine.
        home: The tool's home folder there; None for the platform's default.
        environment: Further environment variables of the user's part.
        options: Further options of ``nbprovision run``.
    """

    playbook: str
    inline: bool = False
    tool: str | None = None
    index_url: str | None = None
    on_create: bool = False
    strict: bool = False
    seconds: int = DEFAULT_SECONDS
    platform: Literal["notebook-instance", "studio"] = "notebook-instance"
    home: str | None = None
    environment: Mapping[str, str] = {}
    options: Sequence[str] = ()


def render(wanted: Wanted) -> str:
    """The script.

    Raises:
        UsageError: a value that cannot stand in it, or a script that is larger than the platform takes.
    """
    places = PLATFORMS[wanted.platform]
    home = places.home if wanted.home is None else wanted.home
    if not re.fullmatch(r"(/[A-Za-z0-9._-]+)+", home):
        raise UsageError(f"--home {home!r} is no absolute path of plain letters", cure="write it out, without spaces")
    if not 30 <= wanted.seconds <= 295:
        raise UsageError(
            f"--deadline {wanted.seconds} is not between 30 and 295 seconds",
            cause="the platform ends a lifecycle script after 300 seconds, and the notebook does not start then",
        )
    environment = {**wanted.environment, "NBPROVISION_HOME": home}
    if wanted.index_url is not None:
        environment["PIP_INDEX_URL"] = _index(wanted.index_url)
    for name in environment:
        if not re.fullmatch(r"[A-Za-z_][A-Za-z0-9_]*", name) or name in ("HOME", "PATH", "USER", "LOGNAME"):
            raise UsageError(f"--env {name}: this variable cannot be set", cure="leave it out")
    options = ["--deadline", str(wanted.seconds - _RESERVE), *wanted.options]
    script = _TEMPLATE.read_text(encoding="ascii")
    parts = {
        # Root's lines first: they hold placeholders themselves.
        "PROFILE": "" if wanted.on_create or wanted.platform != "notebook-instance" else _PROFILE,
        "LINK": _LINK if wanted.platform == "studio" else "",
        "FETCH": _FETCH if any(str(source).startswith("s3://") for source in (wanted.tool, wanted.playbook)) else "",
        "TOOL": _tool_lines(wanted.tool),
        "PLAYBOOK": _playbook_lines(wanted),
        "OPTIONS": " ".join(map(_quoted, options)),
        "ENVIRONMENT": "".join(f" \\\n    {name}={_quoted(value)}" for name, value in sorted(environment.items())),
        "HOOK": "on-create" if wanted.on_create else "on-start",
        "VERSION": __version__,
        "USER_HOME": places.user_home,
        "USER": places.user,
        "HOME": home,
        "SECONDS": str(wanted.seconds),
        "BOOTSTRAP": _packed(_bootstrap()),
        "END": _STRICT if wanted.strict else "exit 0",
    }
    script = _filled(script, parts)
    size = len(script.encode("ascii"))
    if size > MAX_BYTES:
        raise UsageError(
            f"the script has {size:,} bytes, and the platform takes {MAX_BYTES:,}",
            cure="put the playbook on the volume or in a bucket, and name it there, instead of its content here"
            if wanted.inline
            else "shorten the options",
        )
    return script


_STRICT = """\
case $status in 7) exit 0 ;; esac
exit "$status\""""


def _filled(template: str, parts: Mapping[str, str]) -> str:
    """The template with its ``@NAME@`` filled; what a value brings along is never taken for a placeholder.

    A line that a value leaves empty goes.
    """

    def fill(text: str) -> str:
        return re.sub(r"@([A-Z_]+)@", lambda found: parts[found[1]], text)

    lines = []
    for line in template.splitlines():
        filled = fill(parts["PROFILE"]) if line == "@PROFILE@" else fill(line)
        if filled or not line:
            lines.append(filled)
    return "\n".join(lines) + "\n"


def _tool_lines(tool: str | None) -> str:
    if tool is None:
        return f"    export NBPROVISION_SOURCE=nbprovision=={__version__}"
    if tool.startswith("s3://"):
        url = _quoted(_bucket(tool).rstrip("/") + "/")
        return (
            f'    mkdir -p "$home/wheels"\n'
            f"    fetch sync --only-show-errors --delete --exclude '*' --include '*.whl' {url} \"$home/wheels\" ||\n"
            f'        say "the wheels could not be fetched; those of the last start have to do"\n'
            f'    export NBPROVISION_SOURCE="$home/wheels"'
        )
    return f"    export NBPROVISION_SOURCE={_quoted(tool)}"


def _playbook_lines(wanted: Wanted) -> str:
    if wanted.inline:
        return (
            "    playbook=$own/playbook.yml\n    unpack \"$playbook\" <<'NBPROVISION-END'\n"
            f"{_packed(wanted.playbook.encode())}\nNBPROVISION-END"
        )
    if wanted.playbook.startswith("s3://"):
        return (
            "    playbook=$own/playbook.yml\n"
            f'    {{ fetch cp --only-show-errors {_quoted(_bucket(wanted.playbook))} "$own/fetched" &&\n'
            '        put "$playbook" <"$own/fetched"; } ||\n'
            '        say "the playbook could not be fetched; that of the last start has to do"'
        )
    if not wanted.playbook.startswith("/"):
        raise UsageError(
            f"the playbook {wanted.playbook!r} is neither an absolute path on the machine nor an s3:// URL",
            cure="name its place there, or add --inline to put the content of this file into the script",
        )
    return f"    playbook={_quoted(wanted.playbook)}"


def _bootstrap() -> bytes:
    """bootstrap.sh without the lines that are comments and nothing else."""
    first, *lines = _BOOTSTRAP.read_text(encoding="ascii").splitlines()
    kept = [line for line in lines if not line.lstrip().startswith("# ") and line.strip()]
    return "\n".join([first, *kept, ""]).encode("ascii")


def _packed(content: bytes) -> str:
    return base64.b64encode(gzip.compress(content, 9, mtime=0)).decode("ascii")


def _bucket(url: str) -> str:
    if not re.fullmatch(r"s3://[a-z0-9][a-z0-9.-]{1,61}[a-z0-9](/.*)?", url):
        raise UsageError(f"{url!r} is no URL of the form s3://BUCKET/KEY")
    return url


def _index(url: str) -> str:
    if not re.fullmatch(r"https?://[^/]+(/.*)?", url):
        raise UsageError(f"--index-url {url!r} is no URL", cure="give it as pip takes it: https://HOST/simple")
    if "@" in url.split("/")[2]:
        raise UsageError(
            "--index-url must not bring a password along",
            cause="whoever may describe the lifecycle configuration could read it",
            cure="let the playbook's ensure_pip_index take it from where it is kept",
        )
    return url


def _quoted(text: str) -> str:
    """One word of the shell."""
    if not text.isascii() or not text.isprintable():
        raise UsageError(
            f"{text!r} cannot stand in a lifecycle script",
            cause="only printable ASCII can",
            cure="write such values into the playbook",
        )
    return shlex.quote(text)
