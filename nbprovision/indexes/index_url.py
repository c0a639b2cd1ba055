"""The URL of an index: whether it is one, and what in it must not be shown."""

from __future__ import annotations

import base64
import re
from urllib.parse import unquote, urlsplit

from nbprovision.model.errors import ParameterError
from nbprovision.system import secrets

_LONGEST_NAME = 20  # characters of a user without a password; what is longer is a token


def check(key: str, url: str) -> None:
    """Refuse what pip and uv would not understand, and what would break out of its line in a file.

    Args:
        key: The parameter, for the error.
        url: Its value.

    Raises:
        ParameterError: it is no http, https or file URL; shown without what may be a password.

    """
    reference = re.search(r"\$\{\w+\}", url)
    if reference:
        raise ParameterError(
            key,
            f"`{key}` holds {reference[0]}, which neither pip nor uv replaces in its configuration",
            cause="pip replaces it in requirements files only",
            cure=f"write {{{{ lookup('env', '{reference[0][2:-1]}') }}}}",
        )
    shown = re.sub(r"://.*@", f"://{secrets.MASK}@", url)  # the parts of a URL that is wrong cannot be told apart
    if not url or not url.isprintable() or " " in url:
        raise ParameterError(
            key,
            f"`{key}` is empty, or holds a blank, a line break or a control character",
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
        raise ParameterError(key, f"`{key}: {shown}` names no absolute path", cure="write file:///absolute/path")
    if parts.scheme != "file" and not host:
        raise ParameterError(key, f"`{key}: {shown}` names no host", cure="write https://HOST/simple")


def remember(url: str) -> None:
    """Mask the secret of ``url`` from now on: as written, decoded, and as an HTTP header has it."""
    secret = secret_of(url)
    if secret:
        user = unquote(url.partition("://")[2].partition(":")[0])
        header = base64.b64encode(f"{user}:{unquote(secret)}".encode()).decode()
        for text in (secret, unquote(secret), header):
            secrets.remember(text)


def secret_of(url: str) -> str:
    """The password of a URL, or the token that stands in the user's place; empty where there is none."""
    user_info = url.partition("://")[2].partition("/")[0].rpartition("@")[0]
    user, colon, password = user_info.partition(":")
    if password:
        return password
    return user if colon or len(user) > _LONGEST_NAME else ""
