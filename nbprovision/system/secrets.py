"""Secrets that must not be shown: every text that leaves the tool goes through `mask`."""

from __future__ import annotations

import re
from urllib.parse import quote

MASK = "****"
_known: set[str] = set()
# user:password@ of any URL, whether or not anyone told us that it is a secret. A scheme has an end, so that a long
# word without one costs no quadratic search.
_URL_CREDENTIALS = re.compile(
    r"(?P<scheme>[a-zA-Z][a-zA-Z0-9+.-]{0,30}://)(?P<user>[^/\s:@'\"]*):(?P<password>[^/\s'\"]*)@"
)
# Names of environment variables whose values are better not shown.
_SECRET_NAME = re.compile(r"TOKEN|SECRET|PASSW|CREDENTIAL|_KEY", re.IGNORECASE)
# conda channels carry a token in the path.
_URL_TOKEN = re.compile(r"/t/[^/\s'\"]+/")


def remember(secret: str) -> None:
    """Mask ``secret`` from now on, as it stands and as URLs quote it."""
    if len(secret) >= 3:
        _known.update((secret, quote(secret, safe="")))


def remember_url(url: str) -> None:
    """Mask the password of ``url`` from now on, wherever it shows up alone."""
    for match in _URL_CREDENTIALS.finditer(url):
        remember(match["password"])


def is_secret_name(name: str) -> bool:
    """Whether an environment variable of this name is likely to hold a secret."""
    return bool(_SECRET_NAME.search(name))


def mask(text: str) -> str:
    """``text`` with every known secret, URL password and channel token replaced by ``****``."""
    text = _URL_CREDENTIALS.sub(rf"\g<scheme>\g<user>:{MASK}@", text)
    text = _URL_TOKEN.sub(f"/t/{MASK}/", text)
    for secret in sorted(_known, key=len, reverse=True):
        text = text.replace(secret, MASK)
    return text


def without_password(url: str) -> str:
    """``url`` with user kept and password dropped: what may be stored and compared."""
    return _URL_CREDENTIALS.sub(r"\g<scheme>\g<user>@", url)
