"""URLs of git repositories: the accepted forms, and whether two of them name the same repository.

The forms are those of https://git-scm.com/docs/git-clone#_git_urls and of AWS's helper for CodeCommit
(https://github.com/aws/git-remote-codecommit).
"""

from __future__ import annotations

import ipaddress
import os
import re
from typing import Literal, NamedTuple
from urllib.parse import unquote, urlsplit

from nbprovision.model.errors import ParameterError
from nbprovision.system import secrets

Scheme = Literal["https", "http", "git", "ssh", "file", "codecommit"]

FORMS = "https://HOST/PATH, ssh://USER@HOST/PATH, USER@HOST:PATH, codecommit::REGION://NAME or file:///PATH"
_SCP = re.compile(
    r"(?:(?P<user>[A-Za-z0-9._-]+)@)?(?P<host>[A-Za-z0-9][A-Za-z0-9._-]*|\[[0-9a-fA-F:]+\]):(?P<path>[^:].*)"
)
_CODECOMMIT = re.compile(r"codecommit(?:::(?P<region>[a-z0-9-]+))?://(?:[A-Za-z0-9._-]+@)?(?P<name>[A-Za-z0-9._-]+)")
_HELPER = re.compile(r"(?P<name>[a-z0-9-]+)::")
# A text in a shell function of a helper that is the password itself, and no variable with it.
_PLAIN_PASSWORD = re.compile(r"password=(?![\"']?(?:\$|%|`))\S")


class Address(NamedTuple):
    """The parts of a URL that identify a repository; the same for https and ssh on the usual ports.

    Attributes:
        scheme: The way to it.
        host: In lower case, with a port that is not the usual one of http or https; empty for a local repository.
        path: Without ``.git`` at its end.

    """

    scheme: Scheme
    host: str
    path: str

    def same(self, other: Address) -> bool:
        """Whether both name the same repository."""
        return self[1:] == other[1:]

    @property
    def remote(self) -> bool:
        """Whether a network is needed."""
        return self.scheme != "file"


def address(url: str) -> Address | None:
    """What a URL names; None for one that git knows in another form, such as a remote of the user's own."""
    if url.startswith("/"):
        return Address("file", "", _path(os.path.normpath(url)))
    codecommit = _CODECOMMIT.fullmatch(url)
    if codecommit is not None:
        region = codecommit["region"]
        host = f"git-codecommit.{region}.amazonaws.com" if region else "codecommit"
        return Address("codecommit", host, f"v1/repos/{codecommit['name']}")
    if "://" in url:
        try:
            parts = urlsplit(url)
            host, port = parts.hostname or "", parts.port
        except ValueError:
            return None
        scheme = parts.scheme.lower()
        if scheme == "file":
            return (
                Address("file", "", _path(os.path.normpath(unquote(parts.path)))) if host in ("", "localhost") else None
            )
        if scheme not in ("https", "http", "git", "ssh") or not host:
            return None
        usual = scheme not in ("http", "https") or port in (None, 80, 443)
        return Address(scheme, host if usual else f"{host}:{port}", _path(parts.path))  # type: ignore[arg-type]
    match = _SCP.fullmatch(url)
    return Address("ssh", match["host"].lower(), _path(match["path"])) if match is not None else None


def local_folders(url: str) -> list[str]:
    """The existing folders or bundles that git may take for a local repository; empty for a URL of a server."""
    place = address(url)
    if place is None or place.remote:
        return []
    path = os.path.normpath(unquote(urlsplit(url).path) if "://" in url else url)
    return [name for name in (path, f"{path}.git") if os.path.isdir(name) or os.path.isfile(name)]


def check(key: str, url: str) -> None:
    """Refuse a URL that git would not take, that is not safe, or that contains credentials.

    Raises:
        ParameterError: naming ``key``.

    """
    _refuse_credentials(key, url)
    helper = _HELPER.match(url)
    place = address(url)
    spoiled = any(ord(letter) <= ord(" ") for letter in url) or (place is not None and place.remote and "?" in url)
    if place is None or not place.path.strip("/.") or spoiled:
        cause = "it is relative; git would look below its own working folder" if url.startswith((".", "~")) else ""
        if helper is not None:
            cause = f"git would run the program git-remote-{helper['name']}"
        raise ParameterError(
            key, f"'{url[:80]}' is not the URL of a git repository", cause=cause, cure=f"write {FORMS}"
        )
    if place.scheme in ("http", "git") and not is_loopback(urlsplit(url).hostname or ""):
        raise ParameterError(
            key,
            f"'{url[:80]}' is neither encrypted nor signed",
            cause="everybody on the way can change the code",
            cure=f"write https://{place.host}/{place.path}, or a URL of ssh",
        )


def is_loopback(host: str) -> bool:
    """Whether a host name or address means this machine."""
    if host.lower() == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def _refuse_credentials(key: str, url: str) -> None:
    user, at, _ = url.partition("://")[2].partition("/")[0].rpartition("@")
    web = re.match(r"(?i)https?:", url)
    if at and (web or ":" in user):
        secrets.remember_url(url)
        secrets.remember_userinfo(user)
        raise ParameterError(
            key,
            f"'{key}' contains a user or a password",
            cause="git writes the URL into the clone's configuration, where everybody can read it",
            cure="remove it, and let git ask a helper: credential_helper: store, credential_helper: "
            "'!aws codecommit credential-helper $@', or one that ensure_git_config sets",
        )
    query = url.partition("?")[2] if web else ""
    for name, _, value in (item.partition("=") for item in query.split("&")):
        secrets.remember_if_secret(name, value)
    if secrets.mask(url) != url:
        raise ParameterError(
            key,
            f"'{key}' contains a secret",
            cause="git writes the URL into the clone's configuration, where everybody can read it",
            cure="write the URL without it, and let git ask a helper: credential_helper",
        )


def credentials_in(url: str) -> bool:
    """Whether a URL of a submodule has a password in it, or a user that is a token."""
    try:
        _refuse_credentials("", url)
    except ParameterError:
        return True
    return False


def without_credentials(url: str) -> str:
    """A URL of a remote, for a message."""
    return secrets.mask(re.sub(r"(?i)(https?://)[^/@]*@", rf"\g<1>{secrets.MASK}@", url))


def check_helper(key: str, helper: str) -> None:
    """Refuse a credential helper with a password in it.

    Raises:
        ParameterError: naming ``key``.

    """
    match = _PLAIN_PASSWORD.search(helper)
    if match is None and helper.strip() and "\n" not in helper:
        return
    secrets.remember(helper)
    if match is None:
        raise ParameterError(
            key, f"'{key}' is not a command", cure="write a helper of git in one line: store, cache, ..."
        )
    raise ParameterError(
        key,
        f"'{key}' contains a password",
        cause="git writes it into the clone's configuration, where everybody can read it",
        cure="let the helper read it: '!f() { echo username=ada; echo \"password=$(cat ~/.token)\"; }; f'",
    )


def helper_settings(url: str, helper: str) -> dict[str, list[str]]:
    """The variables by which git asks a helper for one server, and no other helper for it.

    Other helpers would store what this one gives, such as CodeCommit's password, which expires after some minutes.
    CodeCommit needs the path of the repository as well
    (https://docs.aws.amazon.com/codecommit/latest/userguide/setting-up-https-unixes.html).
    """
    parts = urlsplit(url)
    section = f"credential.{parts.scheme}://{parts.netloc}"
    settings = {f"{section}.helper": ["", helper]}
    if re.fullmatch(r"git-codecommit(-fips)?\.[a-z0-9-]+\.amazonaws\.com(\.cn)?", parts.hostname or ""):
        settings[f"{section}.usehttppath"] = ["true"]
    return settings


def _path(path: str) -> str:
    path = re.sub("/+", "/", path).strip("/")
    return path.removesuffix("/.git").removesuffix(".git")
