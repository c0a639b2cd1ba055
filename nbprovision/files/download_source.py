"""The source of a download: a URL of the web or of S3, and the digest by which its file is known."""

from __future__ import annotations

import re
from pathlib import Path
from urllib.parse import urlsplit

from nbprovision.files.git_url import is_loopback
from nbprovision.machine.digests import digest_of
from nbprovision.machine.machine import Machine
from nbprovision.model.errors import ParameterError, TaskFailed
from nbprovision.system import secrets

_SHA256 = re.compile(r"[0-9a-f]{64}")
# https://docs.aws.amazon.com/AmazonS3/latest/userguide/bucketnamingrules.html
_S3 = re.compile(r"s3://(?P<bucket>[a-z0-9][a-z0-9.-]{1,61}[a-z0-9])/(?P<key>[^\s?#]*[^\s?#/])")
HOW_TO_DIGEST = "`curl -fsSL URL | sha256sum`"


def check_url(url: str) -> None:
    """Refuse a URL of another kind, one that is not encrypted, and one with a secret.

    Raises:
        ParameterError: naming the parameter.

    """
    parts = None
    try:
        parts = urlsplit(url)
        host = parts.hostname or ""
        _ = parts.port
    except ValueError:
        host = ""
    if parts is not None and parts.scheme in ("http", "https"):
        for item in parts.query.split("&"):
            name, _, value = item.partition("=")
            secrets.remember_if_secret(name, value)
        user = parts.netloc.rpartition("@")[0]
        if user or secrets.mask(url) != url:
            secrets.remember_url(url)
            secrets.remember_userinfo(user)
            raise ParameterError(
                "url",
                "'url' contains a user, a password or another secret",
                cause="the playbook, the log and the list of processes would show it",
                cure="write the URL without it, and the user and password into ~/.netrc "
                "(an ensure_file with mode 0600); for a signed link of S3 write s3://BUCKET/KEY",
            )
    if parts is not None and parts.scheme == "http" and host and not is_loopback(host):
        raise ParameterError(
            "url",
            f"'{url[:80]}' is not encrypted",
            cause="the digest protects the file, but everybody on the way sees what is fetched and can withhold it",
            cure=f"write https://{parts.netloc}{parts.path}",
        )
    web = parts is not None and parts.scheme in ("http", "https") and host and parts.path.strip("/")
    if (web or _S3.fullmatch(url)) and not any(ord(letter) <= ord(" ") or ord(letter) == 127 for letter in url):
        return
    cure = "write https://HOST/PATH or s3://BUCKET/KEY"
    if url.startswith(("/", ".", "~", "file:")):
        cure += "; for a file of this machine ensure_file with `src`"
    raise ParameterError("url", f"'{url[:80]}' is not the URL of a file", cure=cure)


def check_sha256(sha256: str) -> None:
    """Refuse what is not a SHA-256.

    Raises:
        ParameterError: naming the parameter.

    """
    if not _SHA256.fullmatch(sha256.lower()):
        cause = f"it has {len(sha256)} characters; a SHA-256 has 64, each a digit or a letter from a to f"
        if "://" in sha256:
            cause = "it is a URL: whoever changes the file there can change its digest as well"
        raise ParameterError(
            "sha256",
            f"'{sha256[:80]}' is not a SHA-256",
            cause=cause,
            cure=f"write the one that the publisher names, or of a file that you trust: {HOW_TO_DIGEST}",
        )


def fetch(url: str, sha256: str, file: Path, machine: Machine) -> None:
    """Fetch a file; it has the digest then.

    Args:
        url: As `check_url` takes it.
        sha256: As `check_sha256` takes it.
        file: A new file, or the part of an earlier attempt.
        machine: The facts.

    Raises:
        TaskFailed: it cannot be fetched, or is another file.

    """
    failure = f"cannot fetch {url}"
    match = _S3.fullmatch(url)
    if match is None:
        from nbprovision.files.web_download import Download

        Download(machine, url, sha256.lower(), file, failure).fetch()
        return
    from nbprovision.machine import network, s3

    network.retry(
        machine,
        lambda _offline: s3.copy_from_s3(machine, s3.Place(match["bucket"], match["key"]), file, failure),
        cached=False,
    )
    actual = digest_of(file)
    if actual != sha256.lower():
        raise TaskFailed(
            failure,
            cause=f"the object is not the expected one: sha256 is {actual}, not {sha256.lower()}",
            cure="correct `sha256` if the object was replaced on purpose, else ask who changed it",
        )
