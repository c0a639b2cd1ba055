"""The URLs of channels and of packages' archives: ``CHANNEL/SUBDIR/NAME-VERSION-BUILD.conda``.

See CEP 26: https://conda.org/learn/ceps/cep-0026.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import unquote, urlsplit, urlunsplit

from nbprovision.conda.specs import channel_fault
from nbprovision.system import secrets

_SUFFIXES = (".conda", ".tar.bz2")
_SCHEMES = ("https", "http", "file")
_LONGEST_NAME = 200  # bytes of the 255 that Linux allows: temporary names are longer
_URL = re.compile(r"[A-Za-z][A-Za-z0-9+.-]+:")


class Location(NamedTuple):
    """An archive's URL without credentials, and what it shows."""

    url: str
    channel: str
    subdir: str
    name: str
    version: str
    build: str


def located(place: str, beside: Path) -> Location:
    """The URL of an archive, and its parts.

    Args:
        place: A URL, or a path that begins at the folder of ``beside``.
        beside: The file that has it.

    Raises:
        ValueError: it is not the location of a package; with the reason.

    """
    url = place if _URL.match(place) else Path(os.path.abspath(beside.parent / place)).as_uri()
    fault = channel_fault(url)
    if fault is not None:
        raise ValueError(fault.cause)
    url = take_credentials(url)[0]
    parts = urlsplit(url)
    if parts.scheme not in _SCHEMES:
        raise ValueError(f"'{parts.scheme}:' is not one of {', '.join(_SCHEMES)}")
    folder, _, file = parts.path.rpartition("/")
    words = _words(unquote(file))
    if not words or not is_file_name(unquote(file)):
        raise ValueError("a package's archive is named NAME-VERSION-BUILD.conda or NAME-VERSION-BUILD.tar.bz2")
    channel, _, subdir = folder.rpartition("/")
    home = parts._replace(path=channel, query="", fragment="").geturl()
    return Location(url, home, unquote(subdir), words[0].lower(), words[1], words[2])


def is_archive(place: str) -> bool:
    """Whether a URL or a path has the name of a package's archive; otherwise it is a place of sources."""
    return bool(_words(unquote(re.split("[?#]", place)[0].rpartition("/")[2])))


def _words(file: str) -> list[str]:
    """The name, version and build in the name of an archive; empty if it is another file."""
    suffix = next((suffix for suffix in _SUFFIXES if file.endswith(suffix)), None)
    words = file.removesuffix(suffix).rsplit("-", 2) if suffix is not None else []
    return words if len(words) == 3 and all(words) else []


def channels_with_credentials(places: Iterable[str]) -> tuple[str, ...]:
    """The channels of those archives whose URLs contain a token or a password."""
    return tuple(
        dict.fromkeys(place.rpartition("/")[0].rpartition("/")[0] for place in places if has_credentials(place))
    )


def has_credentials(place: str) -> bool:
    """Whether a URL contains a token or a password."""
    try:
        return bool(take_credentials(place)[1])
    except ValueError:  # it is not a URL, which is reported where it is used
        return False


def is_file_name(text: str) -> bool:
    """Whether a text can be the name of a file in a folder."""
    return text.isprintable() and "/" not in text and len(text.encode()) <= _LONGEST_NAME


def on_platform(subdir: str, machine: str) -> bool:
    """Whether a machine, by its own subdir, can have a package of a subdir."""
    return subdir in (machine, "noarch")


def take_credentials(url: str) -> tuple[str, Mapping[str, Any]]:
    """Separate a channel's URL from its token or password, so that neither gets into a record or a log.

    Returns:
        The URL without them, and the credentials in rattler's form, by host without port.

    """
    parts = urlsplit(url)
    if not parts.hostname:
        return url, {}
    host = parts.hostname + (f":{parts.port}" if parts.port else "")
    words = parts.path.split("/")
    credentials: dict[str, Any] = {}
    if len(words) > 2 and words[1] == "t":
        credentials = {parts.hostname: {"CondaToken": words[2]}}
        secrets.remember(words[2])
        words = ["", *words[3:]]
    elif parts.password is not None:
        user, password = unquote(parts.username or ""), unquote(parts.password)
        credentials = {parts.hostname: {"BasicHTTP": {"username": user, "password": password}}}
        secrets.remember(password)
        secrets.remember_url(url)
    return urlunsplit((parts.scheme, host, "/".join(words), parts.query, "")), credentials
