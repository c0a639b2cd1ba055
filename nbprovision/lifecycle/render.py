"""Renders a lifecycle script from options: root's part, and the first stage of the notebook user's part.

The first stage fetches ``bootstrap.sh`` of this version, checked by its sha256, from beside the tool's wheels, from
the wheel itself, or from a bundle. All further code is in that file, so that the script stays small.

The script of a ring names no playbook: it hands ``ring:`` and the URL of the ring's pointer to ``bootstrap.sh``.

Limits: https://docs.aws.amazon.com/sagemaker/latest/dg/notebook-lifecycle-config.html (16,384 characters of base64,
five minutes). The template is ``script.sh`` beside this module.
"""

from __future__ import annotations

import base64
import gzip
import hashlib
import io
import posixpath
import re
import shlex
import tarfile
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Literal

import msgspec
from packaging.version import Version

from nbprovision import __version__
from nbprovision.lifecycle import addresses
from nbprovision.lifecycle.root_part import RootPart
from nbprovision.lifecycle.wheels import TOOL
from nbprovision.model.errors import UsageError

# Its base64 has exactly the 16,384 characters that the platform accepts.
MAX_BYTES = 12_288
# The platform ends a script after 300 seconds. The difference is a reserve for a loaded machine.
MOST_SECONDS = 290
LEAST_SECONDS = 30
DEFAULT_SECONDS = 240
# The seconds of the budget in which root's part ends the user's part and prints its last line.
_RESERVE = 4
# The first bytes of a bundle that the script gets from a bucket: its first member is bootstrap.sh.
FIRST_BYTES = 131_072

_TEMPLATE = Path(__file__).with_name("script.sh")
_BOOTSTRAP = Path(__file__).with_name("bootstrap.sh")
BOOTSTRAP_NAME = f"nbprovision-{__version__}-bootstrap.sh"
BUNDLE = ".tar"  # how the name of a bundle ends
VERSION = str(Version(__version__))  # normalised, as in names of wheels
_WHEEL_NAME = f"nbprovision-{VERSION}-py3-none-any.whl"

# The lines that only root can write. They are static: root reads nothing of them when the script runs.
_PROFILE = """\
    /bin/cat >/etc/profile.d/nbprovision.sh <<'NBPROVISION-END'
if [ "$(/usr/bin/id -un)" = @USER@ ]; then PATH=$PATH:@HOME@/bin; fi
NBPROVISION-END"""

_FROM_WHEEL = """\
from_wheel() {
    for python in python3 "$HOME/anaconda3/bin/python" /opt/conda/bin/python; do
        "$python" -I -c 'import sys, zipfile
print(zipfile.ZipFile(sys.argv[1]).read("nbprovision/lifecycle/bootstrap.sh").decode(), end="")' "$1" && return
    done 2>/dev/null
}"""


class Places(msgspec.Struct, frozen=True):
    """The places on a kind of machine: the user, their home, the tool's home, the user's own playbook, programs."""

    user: str
    user_home: str
    home: str
    user_playbook: str
    path: str


PLATFORMS = {
    "notebook-instance": Places(
        "ec2-user",
        "/home/ec2-user",
        "/home/ec2-user/SageMaker/.nbprovision",
        "/home/ec2-user/SageMaker/nbprovision.yml",
        "/usr/local/bin:/usr/bin:/bin",
    ),
    "studio": Places(
        "sagemaker-user",
        "/home/sagemaker-user",
        "/home/sagemaker-user/.local/state/nbprovision",
        "/home/sagemaker-user/nbprovision.yml",
        "/opt/conda/bin:/usr/local/bin:/usr/bin:/bin",
    ),
}


class ScriptRequest(msgspec.Struct, frozen=True, kw_only=True):
    """The contents of a lifecycle script.

    Attributes:
        playbook: An absolute path on the machine or an ``s3://`` URL; with ``payload``, the name of its first file. A
            bundle has a name that ends with ``.tar``. Empty for a ring.
        ring: In place of a playbook: the ``s3://BUCKET/PREFIX/rings/RING`` URL of a ring's pointer, whose release the
            script runs. Each release names its version of the tool, so that ``tool`` is a place of many wheels.
        payload: Files that go into the script, by their relative paths: the playbook and the files that it names.
        executable: The names of the programs among them.
        tool: The path of a folder of wheels or a wheel on the machine, an ``s3://`` URL that wheels lie under, the
            ``https://`` URL of a wheel, ``pypi:nbprovision==VERSION``, or a requirement for ``index_url``; None for
            this version from ``index_url``, or for the bundle's.
        sha256: The hash of the wheel, which the script checks; required for ``https://`` and for the public index.
        assets_url: The place of the file of the second stage: a folder on the machine, an ``s3://`` or an ``https://``
            URL; None for beside the wheels, or in the wheel or the bundle.
        index_url: The package index for the tool, and for the playbook's packages unless it names another.
        on_create: The script runs once, when the instance is created, instead of at every start.
        strict: A failure keeps the notebook from starting.
        seconds: The time limit of the script.
        platform: The kind of machine.
        home: The tool's home folder there; None for the platform's default.
        environment: Further environment variables of the user's part.
        options: Further options of ``nbprovision run``.
        user_playbook: The user's own playbook; it runs after the team's if it exists.
        on_finish: A shell command that runs as the user after work in the background.
        root: Root's tasks.

    Raises:
        UsageError: neither ``tool`` nor ``index_url`` names the source of the tool. The public index is not a default:
            the project does not own its name there. Or there is both a ring and a playbook, or neither.

    """

    playbook: str = ""
    ring: str | None = None
    payload: Mapping[str, bytes] = {}
    executable: Collection[str] = ()
    tool: str | None = None
    sha256: str | None = None
    assets_url: str | None = None
    index_url: str | None = None
    on_create: bool = False
    strict: bool = False
    seconds: int = DEFAULT_SECONDS
    platform: Literal["notebook-instance", "studio"] = "notebook-instance"
    home: str | None = None
    environment: Mapping[str, str] = {}
    options: Sequence[str] = ()
    user_playbook: str | None = None
    on_finish: str | None = None
    root: RootPart | None = None

    def __post_init__(self) -> None:
        """Refuse to guess the source of the tool, and what to run."""
        if (self.ring is None) == (not self.playbook):
            raise UsageError(
                "a script needs either a playbook or a ring", cause="a ring's releases have their own playbooks"
            )
        if self.tool is None and self.index_url is None and not self.is_bundle:
            raise UsageError(
                "--tool or --index-url is required: the source of nbprovision",
                cause=f"anybody could register {TOOL} on the public index and run code at every start",
                cure=f"write one of {addresses.SOURCES}",
            )

    @property
    def is_bundle(self) -> bool:
        """Whether the playbook is a bundle."""
        return not self.payload and self.playbook.endswith(BUNDLE)


def validated(request: ScriptRequest) -> ScriptRequest:
    """Return the request with every place in the script's form; see `addresses`.

    ``~/`` is expanded, and ``tool`` becomes the value of ``NBPROVISION_SOURCE``, including its hash.

    Raises:
        UsageError: a place cannot be one of the machine.

    """
    user_home = PLATFORMS[request.platform].user_home
    playbook = request.playbook if request.payload or request.ring else _playbook(request, user_home)
    own = request.user_playbook
    if own is not None:
        own = addresses.path("--user-playbook", own, user_home, is_file=True)
        if playbook and posixpath.normpath(own) == posixpath.normpath(playbook):
            raise UsageError(
                f"--user-playbook {own} is also the playbook of the team",
                cause="it would run twice, and its errors would count as the user's",
                cure="leave the option out, or name the user's own playbook",
            )
    return msgspec.structs.replace(
        request,
        playbook=playbook,
        ring=None if request.ring is None else _ring(request),
        user_playbook=own,
        tool=_source(request, user_home),
        sha256=None,
        assets_url=None
        if request.assets_url is None
        else addresses.folder("--assets-url", request.assets_url, user_home),
        home=None if request.home is None else addresses.home(request.home, user_home),
    )


def _playbook(request: ScriptRequest, user_home: str) -> str:
    """Return the place of the playbook, or of the bundle."""
    playbook, option = request.playbook, "--bundle" if request.is_bundle else "PLAYBOOK"
    if playbook.startswith("s3://"):
        return addresses.bucket(option, playbook, is_file=True)
    if playbook.startswith(("/", "~")):
        return addresses.path(option, playbook, user_home, is_file=True)
    cures = {
        "PLAYBOOK": "write its path there, or add --inline to put the content of a local file into the script",
        "--bundle": "write its path there, or upload it and write s3://BUCKET/KEY.tar",
    }
    raise UsageError(
        f"{'the playbook' if option == 'PLAYBOOK' else option} {playbook!r} is neither an absolute path on the machine "
        "nor an s3:// URL",
        cause="it is a file on this machine, which renders the script"
        if Path(playbook).is_file()
        else "the script runs on another machine",
        cure=cures[option],
    )


def _ring(request: ScriptRequest) -> str:
    """Return the URL of the ring's pointer.

    Raises:
        UsageError: it has another form, or the tool can come in one version only.

    """
    url = addresses.ring(request.ring or "")
    tool = request.tool or ""
    if not tool.startswith(("s3://", "/", "~/")) or tool.endswith(".whl"):
        raise UsageError(
            f"--ring {url} needs a folder of wheels as --tool",
            cause="each release names its version of nbprovision, and the script takes the wheel from there",
            cure=f"write --tool {url.rsplit('/', 2)[0]}/wheels",
        )
    return url


def _source(request: ScriptRequest, user_home: str) -> str | None:
    """Return the source of the tool, None for the bundle; refuse one that is only a name on the public index."""
    if request.tool is None and request.index_url is None:
        if request.sha256 is not None:
            raise UsageError(
                "--sha256 has no meaning for --bundle",
                cause="it is for a wheel that the script gets by https:// or from the public index",
                cure="leave it out: a bundle has the digests of all its files",
            )
        return None
    tool = request.tool or f"{TOOL}=={VERSION}"
    tool = addresses.tool(tool, user_home, VERSION, request.sha256)
    if " @ git+" in tool and request.assets_url is None:
        raise UsageError(
            f"--tool {tool} needs --assets-url",
            cause=f"the script gets {BOOTSTRAP_NAME} before it can build anything",
            cure="write that file with --assets DIR, upload it, and name its place with --assets-url",
        )
    if addresses.comes_by_name(tool):
        extra = request.environment.get("PIP_EXTRA_INDEX_URL", "").split()
        addresses.refuse_public_name(tool, [] if request.index_url is None else [request.index_url, *extra])
    return tool


def render(request: ScriptRequest) -> str:
    """Return the script.

    Raises:
        UsageError: a value is not possible in a script, or the script is larger than the platform accepts.

    """
    request = validated(request)
    places = PLATFORMS[request.platform]
    home = places.home if request.home is None else request.home
    if not LEAST_SECONDS <= request.seconds <= MOST_SECONDS:
        raise UsageError(
            f"--deadline {request.seconds} is not between {LEAST_SECONDS} and {MOST_SECONDS} seconds",
            cause="the platform ends a lifecycle script after 300 seconds, and the notebook does not start then",
            cure=f"write a number of seconds between them, or leave it out ({DEFAULT_SECONDS})",
        )
    payload = _packed(request.payload, request.executable)
    digest = hashlib.sha256(bootstrap()).hexdigest()
    parts = {
        "PROFILE": "" if request.on_create or request.platform != "notebook-instance" else _PROFILE,
        "FETCH": _fetch_lines(request),
        "FROM": _quoted(_place(request)),
        "FILE": BOOTSTRAP_NAME,
        "WHAT": f"bootstrap.sh of nbprovision {VERSION} (sha256 {digest[:8]}...)"
        if _is_in_bundle(request)
        else f"{BOOTSTRAP_NAME} (sha256 {digest[:8]}...) or its wheel",
        "SHA256": digest,
        "PLAYBOOK": _quoted(_first_argument(request), _RENAME),
        "PAYLOAD": f" <<'NBPROVISION-END'\n{payload}\nNBPROVISION-END" if payload else "",
        "OPTIONS": " ".join(map(_quoted, ["--deadline", str(request.seconds - _RESERVE), *request.options])),
        "ENVIRONMENT": _environment(request, home),
        "HOOK": "on-create" if request.on_create else "on-start",
        "VERSION": VERSION,
        "USER_HOME": places.user_home,
        "USER": places.user,
        "PATH": places.path,
        "HOME": home,
        "SECONDS": str(request.seconds),
        # The notebook starts even if root's part fails (no free process, no space).
        "TRAP": "" if request.strict else "trap 'exit 0' EXIT",
        "END": (_STRICT_ROOT if request.root else _STRICT) if request.strict else "exit 0",
    }
    template = _TEMPLATE.read_text(encoding="ascii")
    script = _filled(template, {**parts, **_root_lines(request, fetched=False)})
    if request.root is not None and len(script) > MAX_BYTES:
        bare = _filled(template, {**parts, **_root_lines(msgspec.structs.replace(request, root=None), fetched=False)})
        if len(bare) <= MAX_BYTES:
            _refuse_unfetched(request, request.root, MAX_BYTES - len(script) + len(request.root.packed))
            script = _filled(template, {**parts, **_root_lines(request, fetched=True)})
    size = len(script.encode("ascii"))
    if size > MAX_BYTES:
        sizes = ", ".join(f"{name} {len(content):,}" for name, content in request.payload.items())
        raise UsageError(
            f"the script has {size:,} bytes, and the platform accepts {MAX_BYTES:,}",
            cause=f"of these the playbook with its files takes {len(payload):,}, packed (unpacked: {sizes})"
            if payload
            else "",
            cure="put the playbook on the volume or in a bucket, and name it there, instead of --inline"
            if payload
            else "shorten the options",
        )
    return script


def _first_argument(request: ScriptRequest) -> str:
    """Return what ``bootstrap.sh`` gets in the place of a playbook."""
    if request.ring is not None:
        return f"ring:{request.ring}"
    return f"inline:{next(iter(request.payload))}" if request.payload else request.playbook


def bootstrap() -> bytes:
    """Return the second stage of a script: the file that the first stage fetches and runs as the user."""
    return _BOOTSTRAP.read_bytes()


_RENAME = "rename the file or the folder, with plain letters"

_STRICT = """\
case $word in failed) exit "$status" ;; esac
exit 0"""

_STRICT_ROOT = f'[ -z "$root" ] || exit 2\n{_STRICT}'

_PYTHON = "/usr/bin/timeout --kill-after=2 @LIMIT@ /usr/bin/python3 -I -S"
_CLEAN = "@SUDO@/usr/bin/env -i PATH=/usr/sbin:/usr/bin:/sbin:/bin HOME=/root LANG=C.UTF-8@PROXIES@"

_ROOT_IN_THE_SCRIPT = f"""\
root=
{_CLEAN} {_PYTHON} -c 'import base64, sys, zlib
exec(zlib.decompress(base64.b85decode("".join(sys.stdin.read().split()))))' @SECONDS@ @SHORT@ \\
    <<'NBPROVISION-END-OF-ROOT-PART' || root=failed
@PACKED@
NBPROVISION-END-OF-ROOT-PART"""

_ROOT_FETCHED = f"""\
root=
{_CLEAN} /bin/sh -s <<'NBPROVISION-END-OF-ROOT-PART' || root=failed
own=/var/lib/nbprovision
file=$own/@NAME@
sound() {{ [ -f $1 ] && [ "$(sha256sum <$1)" = '@SHA256@  -' ]; }}
mkdir -p -m 700 $own
sound $file || {{
    @FETCH@
    sound $own/.new && mv -f $own/.new $file
}}
! sound $file || exec {_PYTHON} $file @SECONDS@ @SHORT@
echo "root's part: cannot get @NAME@ from" @FROM@
exit 1
NBPROVISION-END-OF-ROOT-PART"""


def _root_lines(request: ScriptRequest, *, fetched: bool) -> dict[str, str]:
    """Return the lines that run root's program: its text stands in them, or they fetch it."""
    part = request.root
    if part is None:
        return {"ROOT": "", "ROOT_WORD": ""}
    seconds = request.seconds // 2  # the user's part gets the rest, and what root does not need
    proxies = sorted((name, value) for name, value in request.environment.items() if name.lower() in _PROXIES)
    # A schedule keeps its log in the tool's home, as the user; root itself opens nothing there.
    named = [] if request.home is None else [("NBPROVISION_HOME", request.home)]
    values = {
        "SUDO": "/usr/bin/sudo -n " if request.platform == "studio" else "",
        "PROXIES": "".join(f" {name}={_quoted(value)}" for name, value in [*proxies, *named]),
        "LIMIT": str(seconds + 3),
        "SECONDS": str(seconds),
        "SHORT": part.sha256[:12],
        "NAME": part.name,
        "SHA256": part.sha256,
        "PACKED": part.packed,
        "FETCH": _root_fetch(request, part.name) if fetched else "",
        "FROM": _quoted(request.assets_url or ""),
    }
    text = _ROOT_FETCHED if fetched else _ROOT_IN_THE_SCRIPT
    lines = re.sub(r"@([A-Z0-9_]+)@", lambda match: values[match[1]], text)
    return {"ROOT": lines, "ROOT_WORD": "${root:+ root=$root}"}


def _root_fetch(request: ScriptRequest, name: str) -> str:
    """Return the command that fetches root's program, by a program of root's."""
    url = _quoted(f"{(request.assets_url or '').rstrip('/')}/{name}")
    if url.startswith("https://"):
        return f"curl -fsSL --proto =https --max-time 60 -o $own/.new {url}"
    places = ["/usr/bin/aws", "/usr/local/bin/aws", *(["/opt/conda/bin/aws"] if request.platform == "studio" else [])]
    return (
        f"for aws in {' '.join(places)}; do [ ! -x $aws ] || AWS_MAX_ATTEMPTS=2 timeout 60 $aws \\\n"
        f"        --cli-connect-timeout 5 s3 cp --only-show-errors {url} $own/.new && break; done"
    )


_PROXIES = ("https_proxy", "http_proxy", "no_proxy")


def _refuse_unfetched(request: ScriptRequest, part: RootPart, room: int) -> None:
    """Refuse root's part where it fits neither into the script nor can be fetched.

    Raises:
        UsageError: it has no place that root may read.

    """
    place = request.assets_url
    if place is not None and not place.startswith("/"):
        return
    takes = (
        f"root's part ({', '.join(part.kinds)}) takes {len(part.packed):,} bytes, and the script has room for {room:,}"
    )
    if place is None:
        raise UsageError(
            takes,
            cause=f"the platform accepts scripts of {MAX_BYTES:,} bytes",
            cure="write it into a folder with --assets DIR, upload that, and name its place with --assets-url s3://...",
        )
    raise UsageError(
        f"--assets-url {place} cannot be the place of root's part",
        cause=f"root reads nothing that the notebook's user can write; {takes}",
        cure="name a place of S3 or https://",
    )


def _filled(template: str, parts: Mapping[str, str]) -> str:
    """Fill each ``@NAME@`` of the template; placeholders in values stay as they are.

    Comments below the head are left out, and so are lines that become empty.
    """

    def fill(text: str) -> str:
        return re.sub(r"@([A-Z0-9_]+)@", lambda match: parts[match[1]], text)

    head, body = template.split("\n#\n", 1)
    lines = [fill(line) for line in head.splitlines()]
    for line in body.splitlines():
        if line.lstrip().startswith("# ") or not line:
            continue
        filled = fill(parts["PROFILE"]) if line == "@PROFILE@" else fill(line)
        if filled:
            lines.append(filled)
    return "\n".join(lines) + "\n"


def _environment(request: ScriptRequest, home: str) -> str:
    """Return the variables of the user's part, as words for ``env``."""
    environment = {**request.environment, "NBPROVISION_HOME": home}
    if request.index_url is not None:
        environment["PIP_INDEX_URL"] = _index(request.index_url)
    if request.tool is not None:
        environment["NBPROVISION_SOURCE"] = request.tool
    if request.user_playbook is not None:
        environment["NBPROVISION_USER_PLAYBOOK"] = request.user_playbook
    if request.on_finish is not None:
        environment["NBPROVISION_ON_FINISH"] = request.on_finish
    for name in environment:
        if not re.fullmatch(r"[A-Za-z_][A-Za-z0-9_]*", name) or name in ("HOME", "PATH", "USER", "LOGNAME"):
            raise UsageError(
                f"--env {name}: this variable cannot be set",
                cause="the script sets it itself"
                if name.isidentifier()
                else "a name has letters, digits and underscores",
                cure="leave it out, or give it another name",
            )
    return "".join(f" \\\n    {name}={_quoted(value)}" for name, value in sorted(environment.items()))


def _place(request: ScriptRequest) -> str:
    """Return the place of the second stage, for a message; the index if the tool is only a name."""
    if _is_in_bundle(request):
        return request.playbook
    tool = request.tool or ""
    return request.assets_url or (addresses.comes_by_name(tool) and request.index_url) or tool


def _is_in_bundle(request: ScriptRequest) -> bool:
    """Whether the script gets the second stage from the bundle."""
    return request.assets_url is None and request.tool is None


def _fetch_lines(request: ScriptRequest) -> str:
    """Return the shell function ``fetch FILE``, which gets the second stage from its source."""
    limit = max(10, request.seconds // 4)
    if _is_in_bundle(request):
        return _fetch_from_bundle(request.playbook, limit)
    source = request.assets_url or request.tool or ""
    if source.startswith("https://"):
        url = _quoted(f"{source.rstrip('/')}/{BOOTSTRAP_NAME}")
        return f'fetch() {{ curl -fsSL --max-time {limit} -o "$1" {url}; }}'
    if source.startswith("s3://"):
        folder = _quoted(source.rstrip("/") + "/")
        lines = [
            "export AWS_MAX_ATTEMPTS=2 PATH=$PATH:$HOME/anaconda3/bin",
            f'get() {{ timeout {limit} aws --cli-connect-timeout 5 s3 cp --only-show-errors {folder}$1 "$2" ||',
            f"    {{ [ $? -ne 124 ] || echo 'aws took more than {limit} s'; return 1; }}; }}",
            f'get {BOOTSTRAP_NAME} "$1" || {{ get {_WHEEL_NAME} "$own/.wheel" && from_wheel "$own/.wheel" >"$1"; }}',
        ]
    elif source.startswith("/"):
        folder = _quoted(source.rsplit("/", 1)[0] if source.endswith(".whl") else source.rstrip("/"))
        lines = [f'cat {folder}/{BOOTSTRAP_NAME} >"$1" 2>/dev/null || from_wheel {folder}/{_WHEEL_NAME} >"$1"']
    else:
        # The URL of a wheel is an exact requirement itself.
        requirement = _quoted(source if ".whl#" in source else f"nbprovision=={VERSION}")
        lines = []
        if source.startswith("pypi:"):  # pip reads a hash from files only
            lines = [f"printf '%s\\n' {' '.join(map(_quoted, _requirements(source)))} >\"$own/.tool\""]
            requirement = '-r "$own/.tool"'
        lines += [
            'for python in python3 "$HOME/anaconda3/bin/python" /opt/conda/bin/python; do',
            f'    why=$(timeout {limit} "$python" -I -m pip -q download --no-deps -d "$own/.wheel" \\',
            f'        {requirement} 2>&1) && from_wheel "$own/.wheel/{_WHEEL_NAME}" >"$1" && return',
            '    case $why in *"No module named"* | *"failed to run"*) ;; ?*) said=$why ;; esac',
            "done",
            'echo "$said" | tail -n 3; return 1',
        ]
    return "\n".join([_FROM_WHEEL, "fetch() (", *(f"    {line}" for line in lines), ")"])


def _fetch_from_bundle(bundle: str, limit: int) -> str:
    """Return the function ``fetch FILE`` that extracts the first member of a bundle."""
    if not bundle.startswith("s3://"):
        return f'fetch() {{ tar -xOf {_quoted(bundle)} --occurrence=1 bootstrap.sh >"$1"; }}'
    bucket, _, key = bundle.removeprefix("s3://").partition("/")
    return f"""\
fetch() (
    export AWS_MAX_ATTEMPTS=2 PATH=$PATH:$HOME/anaconda3/bin
    timeout {limit} aws --cli-connect-timeout 5 s3api get-object --bucket {bucket} --key {_quoted(key)} \\
        --range bytes=0-{FIRST_BYTES - 1} "$own/.bundle" >/dev/null ||
        {{ [ $? -ne 124 ] || echo 'aws took more than {limit} s'; return 1; }}
    tar -xOf "$own/.bundle" --occurrence=1 bootstrap.sh >"$1"
    rm -f "$own/.bundle"
)"""


def _requirements(pypi: str) -> list[str]:
    """Return the requirements file for ``pypi:NAME==VERSION --hash=...``: only a wheel, as a build would run code."""
    return [f"--only-binary {TOOL}", pypi.removeprefix("pypi:")]


def _packed(payload: Mapping[str, bytes], executable: Collection[str]) -> str:
    """Return the files as one line: base64 of a compressed tar archive, reproducible."""
    if not payload:
        return ""
    content = io.BytesIO()
    with tarfile.open(fileobj=content, mode="w", format=tarfile.USTAR_FORMAT) as archive:
        for name, data in payload.items():
            _quoted(name, _RENAME)
            entry = tarfile.TarInfo(name)
            entry.size, entry.mode = len(data), 0o755 if name in executable else 0o644
            archive.addfile(entry, io.BytesIO(data))
    return base64.b64encode(gzip.compress(content.getvalue(), 9, mtime=0)).decode("ascii")


def _index(url: str) -> str:
    if not re.fullmatch(r"https?://[^/]+(/.*)?", url):
        raise UsageError(
            f"--index-url {url!r} is not a URL",
            cause="pip gets packages by https:// or http://",
            cure="write it as pip takes it: https://HOST/simple",
        )
    return url


def _quoted(text: str, cure: str = "write such values into the playbook") -> str:
    """Return one word of the shell."""
    if not text.isascii() or not text.isprintable():
        raise UsageError(
            f"{text!r} cannot be part of a lifecycle script",
            cause="only printable ASCII can",
            cure=cure,
        )
    return shlex.quote(text)
