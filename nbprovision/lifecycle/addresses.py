"""Checks the form of the places in a script: paths of the machine, buckets, URLs, requirements.

A path need not exist on this machine, which renders the script. `nbprovision.lifecycle.wheels` checks existing paths.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable
from urllib.parse import unquote, urlsplit

from packaging.requirements import InvalidRequirement, Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version

from nbprovision.lifecycle.wheels import TOOL, refuse_other_wheel
from nbprovision.model.errors import UsageError

_SCHEME = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*://|file:", re.IGNORECASE)
# https://docs.aws.amazon.com/AmazonS3/latest/userguide/bucketnamingrules.html
_BUCKET = re.compile(r"s3://(?!.*\.\.[^/]*(?:/|$))[a-z0-9][a-z0-9.-]{1,61}[a-z0-9](?P<key>/.*)?")
# The script appends a file name, so that a query or a fragment is impossible; a user would be a secret.
# A ring is part of the names of its lifecycle configurations:
# https://docs.aws.amazon.com/sagemaker/latest/APIReference/API_CreateNotebookInstanceLifecycleConfig.html
_RING = re.compile(r"(?P<folder>.*)/rings/(?P<name>(?=.{1,63}$)[a-zA-Z0-9](-*[a-zA-Z0-9])*)")
_HTTPS = re.compile(r"https://[^\s/?#@]+(/[^\s?#]*)?")
_ARCHIVES = (".tar.gz", ".tgz", ".tar.bz2", ".tar.xz", ".tar", ".zip", ".egg")
_HOME = re.compile(r"(/[A-Za-z0-9._-]+)+")
# The project does not own its name there: anybody could register it and run code at every start.
_PUBLIC_INDEX = re.compile(r"https?://([^/@]*@)?([^/:]+\.)?(pypi\.org|pypi\.python\.org)(:\d+)?(/.*)?", re.IGNORECASE)
_SHA256 = re.compile(r"[0-9a-fA-F]{64}")
# The possible sources of the tool on the command line; bootstrap.sh has the same text.
SOURCES = (
    "--tool FOLDER (of wheels), --tool WHEEL, --tool s3://BUCKET/PREFIX, --tool https://HOST/WHEEL --sha256 H, "
    f"--index-url https://HOST/simple (an index that has {TOOL}), or --tool pypi:{TOOL}==VERSION --sha256 H"
)


def path(option: str, text: str, user_home: str, *, is_file: bool = False) -> str:
    """Return an absolute path of the machine; ``~/`` is the notebook user's home folder there.

    Args:
        option: The option, for messages: ``--user-playbook``.
        text: Its value.
        user_home: The home folder on the machine.
        is_file: The option takes no folder.

    Raises:
        UsageError: the path is relative, a URL, or, for a file, ends with a slash.
    """
    if text.startswith("~/"):
        text = f"{user_home}/{text[2:].lstrip('/')}"
    example = f"write it out: {user_home}/..., or ~/... for the same (in quotes, or the shell here replaces the ~)"
    if _SCHEME.match(text):
        raise UsageError(f"{option} {text} is a URL", cause="the option takes a path of the machine", cure=example)
    if text.startswith("~"):
        raise UsageError(
            f"{option} {text} is not an absolute path", cause="only the notebook user's own ~/ is known", cure=example
        )
    if not text.startswith("/"):
        here = " (it exists here on the rendering machine)" if text and os.path.exists(text) else ""
        raise UsageError(
            f"{option} {text or repr(text)} is not an absolute path",
            cause=f"the script runs on another machine, and a relative path does not exist there{here}",
            cure=example,
        )
    if is_file and text.endswith("/"):
        raise UsageError(
            f"{option} {text} is a folder", cause="it ends with a slash", cure="name the file itself, as in /a/team.yml"
        )
    return text


def bucket(option: str, url: str, *, is_file: bool = False) -> str:
    """Return an ``s3://`` URL of a prefix, or of a file.

    Raises:
        UsageError: a bucket cannot have that name, or the name of the file is missing.
    """
    match = _BUCKET.fullmatch(url)
    form = "s3://BUCKET/KEY" if is_file else "s3://BUCKET/PREFIX"
    if match is None:
        raise UsageError(
            f"{option} {url} is not a URL of the form {form}",
            cause="a bucket has 3 to 63 lowercase letters, digits, dots and hyphens, a letter or digit at both ends",
            cure=f"write {form}, with the name that `aws s3 ls` shows",
        )
    if is_file and (match["key"] or "/").endswith("/"):
        raise UsageError(
            f"{option} {url} is not a URL of the form {form}",
            cause="it names a bucket or a folder in it, not a file",
            cure=f"add the name: {url.rstrip('/')}/team.yml",
        )
    return url


def ring(url: str) -> str:
    """Return the URL of a ring's pointer.

    Raises:
        UsageError: it has another form.
    """
    form = "s3://BUCKET/PREFIX/rings/RING"
    if not url.startswith("s3://") or not _RING.fullmatch(url):
        raise UsageError(
            f"--ring {url} is not a URL of the form {form}",
            cause="RING has 1 to 63 letters, digits and hyphens, a letter or digit at both ends",
            cure=f"write {form}, where `nbprovision fleet publish` puts the ring's pointer",
        )
    return bucket("--ring", url, is_file=True)


def folder(option: str, text: str, user_home: str) -> str:
    """Return the place of a folder: a path of the machine, an ``s3://`` or an ``https://`` URL.

    Raises:
        UsageError: the text has another form.
    """
    if text.startswith("s3://"):
        return bucket(option, text)
    if text.startswith("https://"):
        if not _HTTPS.fullmatch(text):
            raise UsageError(
                f"{option} {text} is not the URL of a folder",
                cause="the script appends a file name to it, so it cannot have a query, a fragment, a user or a space",
                cure="write https://HOST/FOLDER, or use a bucket: s3://BUCKET/PREFIX",
            )
        return text
    if _SCHEME.match(text):
        raise UsageError(
            f"{option} {text} is not a source that the script supports",
            cause="the script knows s3:// and https:// only; file: URLs are written as paths",
            cure=_as_path(text) or "write s3://BUCKET/PREFIX, https://HOST/FOLDER, or a folder on the volume",
        )
    return path(option, text, user_home)


def home(text: str, user_home: str) -> str:
    """Return the tool's home folder; its path is unquoted in the script.

    Raises:
        UsageError: the text is not an absolute path of plain letters.
    """
    text = path("--home", text, user_home).rstrip("/")
    if not _HOME.fullmatch(text) or {".", ".."}.intersection(text.split("/")):
        raise UsageError(
            f"--home {text or '/'} is not an absolute path of plain letters",
            cause="spaces and quotes have a meaning in the script, and .. could lead anywhere",
            cure=f"write it with letters, digits, dots, hyphens and underscores: {user_home}/SageMaker/.nbprovision",
        )
    return text


def tool(text: str, user_home: str, version: str, sha256: str | None = None) -> str:
    """Return the source of the tool: a folder of wheels or a wheel on the machine, a bucket, or a requirement.

    Args:
        text: The value of ``--tool``.
        user_home: The notebook user's home folder on the machine.
        version: The version that the script requires.
        sha256: The hash of the tool's wheel.

    Returns:
        The value of ``NBPROVISION_SOURCE``, which contains the hash.

    Raises:
        UsageError: the text has another form or excludes that version of the tool, or the hash is missing or wrong.
    """
    if sha256 is None and text.startswith("pypi:"):
        text, in_one, digest = text.partition(" --hash=sha256:")  # the form of NBPROVISION_SOURCE
        sha256 = digest if in_one else None
    if sha256 is not None and not _SHA256.fullmatch(sha256):
        raise UsageError(
            f"--sha256 {sha256} is not a sha256",
            cause=f"it has {len(sha256)} characters; a sha256 has 64, each a digit or a letter from a to f",
            cure=f"write what this prints: sha256sum {TOOL}-{version}-py3-none-any.whl",
        )
    if text.startswith("pypi:"):
        return _from_pypi(text, version, sha256)
    if sha256 is not None:
        if text.startswith("https://") and urlsplit(text).path.endswith(".whl"):
            text = f"{TOOL} @ {text.partition('#')[0]}#sha256={sha256.lower()}"
        else:
            raise UsageError(
                f"--sha256 has no meaning for --tool {text}",
                cause="the script checks the hash of a wheel that it gets by https:// or from the public index",
                cure=f"leave it out, or write --tool https://HOST/WHEEL or --tool pypi:{TOOL}=={version}",
            )
    if text.startswith("s3://"):
        if text.rstrip("/").endswith(".whl"):
            raise UsageError(
                f"--tool {text} is a single wheel",
                cause="the script fetches all wheels under a prefix, including the tool's dependencies",
                cure=f"name the prefix: --tool {text.rstrip('/').rpartition('/')[0]}",
            )
        return bucket("--tool", text)
    if _SCHEME.match(text):
        cure = _as_path(text) or "put the wheels into a bucket (s3://BUCKET/PREFIX) or into a folder on the volume"
        if text.startswith("https://") and urlsplit(text).path.endswith(".whl"):
            cure = f"add the wheel's hash: --sha256 ..., or --tool '{TOOL} @ {_with_hash(text)}'"
        raise UsageError(
            f"--tool {text} is a URL that the script cannot fetch from",
            cause="it takes a folder of wheels or a wheel on the volume, s3://BUCKET/PREFIX, a wheel by https:// with "
            "its hash, or a requirement for pip",
            cure=cure,
        )
    if text.startswith(("/", "~")):
        text = path("--tool", text, user_home)
        if text.endswith(".whl"):
            refuse_other_wheel(text, Version(version))
        elif text.endswith(_ARCHIVES):
            raise UsageError(
                f"--tool {text} is not a wheel",
                cause="the script takes a folder of wheels, or a single wheel",
                cure=f"build it in a checkout (pip wheel --no-deps .), and name {TOOL}-{version}-py3-none-any.whl",
            )
        return text
    return _requirement(text, user_home, Version(version))


def comes_by_name(tool: str) -> bool:
    """Whether a source, as `tool` returns it, is only the tool's name, for any index: ``nbprovision>=1``."""
    return not tool.startswith(("/", "s3://", "pypi:")) and Requirement(tool).url is None


def refuse_public_name(tool: str, indexes: Iterable[str]) -> None:
    """Refuse the tool's name on the public index, where anybody may register it.

    Args:
        tool: The source, as `tool` returns it.
        indexes: The URLs of the script's indexes; without any, pip uses the public one.

    Raises:
        UsageError: an index is public.
    """
    indexes = list(indexes)
    public = next(filter(_PUBLIC_INDEX.fullmatch, indexes), None)
    if indexes and public is None:
        return
    raise UsageError(
        f"--tool {tool} is a name on the public index" + (f", {public}" if public else ""),
        cause=f"anybody could register {TOOL} there and run code at every start",
        cure=f"write one of {SOURCES}",
    )


def _from_pypi(text: str, version: str, sha256: str | None) -> str:
    form = f"--tool pypi:{TOOL}=={version} --sha256 H"
    if text != f"pypi:{TOOL}=={version}":
        raise UsageError(
            f"--tool {text} is not pypi:{TOOL}=={version}",
            cause=f"the script asks for exactly {version}, the version that renders it",
            cure=f"write {form}",
        )
    if sha256 is None:
        raise UsageError(
            f"--tool {text} has no hash",
            cause=f"anybody could register {TOOL} on the public index and run code at every start",
            cure=f"write {form}, with the sha256 of a wheel that you have reviewed (sha256sum prints it)",
        )
    return f"{text} --hash=sha256:{sha256.lower()}"


def _requirement(text: str, user_home: str, version: Version) -> str:
    here = "it exists here on the rendering machine; " if text and os.path.exists(text) else ""
    try:
        requirement = Requirement(text)
    except InvalidRequirement:
        requirement = None
    if requirement is None or canonicalize_name(requirement.name) != TOOL:
        raise UsageError(
            f"--tool {text or repr(text)} is neither a requirement for {TOOL} nor an absolute path",
            cause=f"{here}the script runs on another machine, and a relative path does not exist there",
            cure=f"write one of {SOURCES}; FOLDER and WHEEL are places there, such as {user_home}/SageMaker/wheels",
        )
    if not requirement.specifier.contains(version, prereleases=True):
        raise UsageError(
            f"--tool {text} leaves out {TOOL} {version}",
            cause=f"the script asks for exactly {version}, the version that renders it",
            cure=f"write --tool {TOOL}=={version}, or render the script with the version that you want",
        )
    if requirement.url is None:
        return text
    url = urlsplit(requirement.url)
    if url.scheme == "file" or not url.scheme:
        raise UsageError(
            f"--tool {text} names a file by a URL",
            cause="the script takes files of the machine by their paths",
            cure=_as_path(requirement.url) or f"write {user_home}/SageMaker/wheels",
        )
    if not url.path.endswith(".whl"):
        if url.scheme.startswith("git+"):
            return str(requirement)
        raise UsageError(
            f"--tool {text} is neither a wheel nor a repository",
            cause="building it would run code without a checked hash",
            cure=f"write one of {SOURCES}",
        )
    refuse_other_wheel(unquote(url.path), version, shown=text)
    if not re.search(r"(^|&)sha256=[0-9a-f]{64}(&|$)", url.fragment):
        raise UsageError(
            f"--tool {text} has no hash",
            cause=f"the text after the # is {url.fragment!r}, not sha256= and 64 hexadecimal digits"
            if url.fragment
            else "anybody who changes the file at that address could run code at every start",
            cure=f"add the hash of the wheel: --tool '{TOOL} @ {_with_hash(requirement.url)}'",
        )
    return str(requirement)


def _with_hash(url: str) -> str:
    return f"{url.partition('#')[0]}#sha256=..."


def _as_path(url: str) -> str:
    """Return the advice for a ``file:`` URL; empty for another URL."""
    parts = urlsplit(url)
    if parts.scheme.lower() != "file" or not parts.path.startswith("/") or parts.netloc not in ("", "localhost"):
        return ""
    return f"write the path: {unquote(parts.path)}"
