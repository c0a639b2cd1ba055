"""The names of conda's channels: whether a text can be one (https://conda.org/learn/ceps/cep-0026)."""

from __future__ import annotations

import re
from typing import NamedTuple
from urllib.parse import urlsplit

_SCHEMES = ("https", "http", "file", "s3", "gcs", "oci")
# With a path behind it (`conda-forge/label/dev`), and the platforms that are meant, which conda takes in brackets.
_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.+-]*(/[A-Za-z0-9_.+@-]+)*/?(\[[A-Za-z0-9_, -]+\])?")
_CURE = "write a name (conda-forge), a URL (https://HOST/PATH) or a path (./folder, /folder)"


class Fault(NamedTuple):
    """Why a text is not what it has to be, and what to write instead."""

    cause: str
    cure: str


def fault(channel: str) -> Fault | None:
    """Why a text cannot be a channel, None where it can; a path is taken for one as it is."""
    if not channel.strip() or not channel.isprintable():
        return Fault("it is empty, or holds a line break or a control character", _CURE)
    if "$" in channel:
        return Fault("it has a variable in it that is not set, or that nothing replaces there", "write out the channel")
    if re.match(r"[A-Za-z][A-Za-z0-9+.-]*:", channel):
        return _of_url(channel)
    if channel.startswith(("/", "~/", "./", "../")) or channel in (".", "..", "~"):
        return None
    if _NAME.fullmatch(channel):
        return None
    if re.search(r"[\s,]", channel):
        return Fault("a channel's name has no blank and no comma", "give each channel an entry of its own")
    return Fault("a channel's name has letters, digits and . _ + - /", _CURE)


def _of_url(url: str) -> Fault | None:
    scheme, _, rest = url.partition(":")
    if scheme not in _SCHEMES:
        return Fault(
            f"'{scheme}:' is not a scheme that conda knows", f"begin it with one of {', '.join(_SCHEMES)}, and ://"
        )
    if not rest.startswith("//"):
        return Fault(f"two slashes belong behind {scheme}:", f"begin it with {scheme}://")
    try:
        parts = urlsplit(url)
        host, _ = parts.hostname, parts.port  # a port that is no number raises
    except ValueError as error:
        return Fault(str(error), _CURE)
    if scheme == "file":
        wrong = parts.netloc not in ("", "localhost") or not parts.path.startswith("/")
        return Fault("it names no absolute path", "write file:///absolute/path") if wrong else None
    if not host or " " in parts.netloc:
        return Fault("it names no host", f"write {scheme}://HOST/PATH")
    if " " in url:
        return Fault("there is a blank in it", "write a blank as %20, and give each channel an entry of its own")
    return None
