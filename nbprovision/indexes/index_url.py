"""The URL of an index: its validity, and its secret."""

from __future__ import annotations

import base64
import re
from urllib.parse import unquote, urlsplit

from nbprovision.model.errors import ParameterError
from nbprovision.system import secrets

_LONGEST_NAME = 20  # characters of a user without a password; a longer one is a token


def check(key: str, url: str) -> None:
    """Refuse a URL that pip and uv would not understand, or that would not stay on its line in a file.

    Args:
        key: The parameter, for the error.
        url: Its value.

    Raises:
        ParameterError: it is not an http, https or file URL. The error does not show a possible password.

    """
    reference = re.search(r"\$\{\w+\}", url)
    if reference:
        raise ParameterError(
            key,
            f"`{key}` contains {reference[0]}, which neither pip nor uv replaces in its configuration",
            cause="pip replaces it in requirements files only",
            cure=f"write {{{{ lookup('env', '{reference[0][2:-1]}') }}}}",
        )
    shown = re.sub(r"://.*@", f"://{secrets.MASK}@", url)  # the parts of an invalid URL cannot be separated
    if not url or not url.isprintable() or " " in url:
        raise ParameterError(
            key,
            f"`{key}` is empty, or contains a space, a line break or a control character",
            cure="write such characters of a user, a password or a path as %20 and the like (filter `urlencode`)",
        )
    try:
        parts = urlsplit(url)
        host, port = parts.hostname, parts.port  # noqa: F841 - a port that is not a number raises
        mistaken = "@" in parts.query + parts.fragment
    except ValueError:
        mistaken = True
    if mistaken:
        raise ParameterError(
            key,
            f"`{key}: {shown}` is not a URL",
            cure="in a user or password write / as %2F, : as %3A, @ as %40, # as %23, ? as %3F (filter `urlencode`)",
        )
    if parts.scheme not in ("http", "https", "file"):
        cure = f"write file://{url}" if url.startswith("/") else "write http://, https:// or file://"
        raise ParameterError(key, f"`{key}: {shown}` is not an http, https or file URL", cure=cure)
    if parts.scheme == "file" and (parts.netloc not in ("", "localhost") or not parts.path.startswith("/")):
        raise ParameterError(key, f"`{key}: {shown}` has no absolute path", cure="write file:///absolute/path")
    if parts.scheme != "file" and not host:
        raise ParameterError(key, f"`{key}: {shown}` has no host", cure="write https://HOST/simple")


def remember(url: str) -> None:
    """Mask the secret of ``url`` from now on: as written, decoded, and in the form of an HTTP header."""
    secret = secret_of(url)
    if secret:
        user = unquote(url.partition("://")[2].partition(":")[0])
        header = base64.b64encode(f"{user}:{unquote(secret)}".encode()).decode()
        for text in (secret, unquote(secret), header):
            secrets.remember(text)


def secret_of(url: str) -> str:
    """The password of a URL, or a token in place of the user; empty without one."""
    user_info = url.partition("://")[2].partition("/")[0].rpartition("@")[0]
    user, colon, password = user_info.partition(":")
    if password:
        return password
    return user if colon or len(user) > _LONGEST_NAME else ""
