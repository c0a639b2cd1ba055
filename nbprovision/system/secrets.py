"""Secrets that must not be shown: every text that leaves the tool goes through `mask`."""

from __future__ import annotations

import base64
import json
import re
import shlex
from typing import Any
from urllib.parse import quote, unquote

MASK = "****"
_known: set[str] = set()
_SHORTEST = 3  # characters; what is shorter would be masked in every other word
_LONGEST_USER = 20  # characters of a user without a password; what is longer is a token
# What a URL's user and password may hold unquoted (RFC 3986); some libraries quote all of it, others none.
_UNQUOTED = "!$&'()*+,~"
# user:password@ of any URL, whether or not anyone told us that it is a secret. A scheme has an end, so that a long
# word without one costs no quadratic search.
_URL_CREDENTIALS = re.compile(
    r"(?P<scheme>[a-zA-Z][a-zA-Z0-9+.-]{0,30}://)(?P<user>[^/\s:@'\"]*):(?P<password>[^/\s'\"]*)@"
)
# Names of environment variables whose values are better not shown.
_SECRET_NAME = re.compile(r"TOKEN|SECRET|PASSW|CREDENTIAL|_KEY", re.IGNORECASE)
# A token may stand in the place of the user, alone or before an empty password.
_URL_LONE_TOKEN = re.compile(
    rf"(?P<scheme>[a-zA-Z][a-zA-Z0-9+.-]{{0,30}}://)(?:[^/\s:@'\"]{{{_LONGEST_USER + 1},2000}}(?=@)|[^/\s:@'\"]+:(?=@))"
)
# conda channels carry a token in the path.
_URL_TOKEN = re.compile(r"/t/[^/\s'\"]+/")
# Links that are signed, and what a request says of who makes it.
_QUERY = re.compile(
    r"(?P<name>[?&](?:[a-z-]*token|api_?key|password|secret|sig|signature|x-amz-(?:signature|credential)|key)=)"
    r"[^&\s'\"#]+",
    re.IGNORECASE,
)
_HEADER = re.compile(r"(?P<name>authorization['\"]?\s*[:=]\s*['\"]?(?:basic|bearer|token)\s+)[^\s'\"]+", re.IGNORECASE)


def remember(secret: str) -> None:
    """Mask ``secret`` from now on: as it stands, as URLs, JSON, Python and shells write it, and in base64."""
    for text in (secret, unquote(secret)):
        if len(text) < _SHORTEST:
            continue
        _known.update(
            (
                text,
                quote(text, safe=""),
                quote(text, safe=_UNQUOTED),
                json.dumps(text)[1:-1],
                json.dumps(text, ensure_ascii=False)[1:-1],
                repr(text)[1:-1],
                shlex.quote(text).strip("'"),
                _base64(text),
            )
        )


def remember_url(url: str) -> None:
    """Mask the password of ``url`` from now on, wherever it shows up: alone, or as an HTTP header has it."""
    for match in _URL_CREDENTIALS.finditer(url):
        user, password = unquote(match["user"]), match["password"]
        if len(password) >= _SHORTEST:
            remember(password)
            _known.update((_base64(f"{user}:{password}"), _base64(f"{user}:{unquote(password)}")))


def is_secret_name(name: str) -> bool:
    """Whether an environment variable of this name is likely to hold a secret."""
    return bool(_SECRET_NAME.search(name))


def mask(text: str) -> str:
    """``text`` with every known secret, URL password and channel token replaced by ``****``."""
    text = _URL_LONE_TOKEN.sub(rf"\g<scheme>{MASK}", text)
    text = _URL_CREDENTIALS.sub(rf"\g<scheme>\g<user>:{MASK}@", text)
    text = _URL_TOKEN.sub(f"/t/{MASK}/", text)
    text = _QUERY.sub(rf"\g<name>{MASK}", text)
    text = _HEADER.sub(rf"\g<name>{MASK}", text)
    for secret in sorted(_known, key=len, reverse=True):
        text = text.replace(secret, MASK)
    return text


def masked(value: Any) -> Any:
    """Plain data with the secrets in its texts masked; keys stay, so that a document keeps its form.

    It is masked before it is encoded: a quote or a letter with an accent stands otherwise in a document than in the
    secret. Bytes of a file's name that are no UTF-8 become question marks, as no document could hold them.
    """
    if isinstance(value, str):
        return mask(value.encode("utf-8", "replace").decode())
    if isinstance(value, dict):
        return {key: masked(one) for key, one in value.items()}
    return [masked(one) for one in value] if isinstance(value, (list, tuple)) else value


def without_password(url: str) -> str:
    """``url`` with user kept and password dropped: what may be stored and compared."""
    return _URL_CREDENTIALS.sub(r"\g<scheme>\g<user>@", url)


def _base64(text: str) -> str:
    return base64.b64encode(text.encode("utf-8", "surrogateescape")).decode().rstrip("=")
