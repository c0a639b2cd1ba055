"""URLs in a lock: without passwords and tokens, and without folders of one machine.

py-rattler parses no relative URL. A local channel beside the playbook therefore has a URL on a host that cannot exist
(``.invalid``, RFC 6761, section 6.4): ``https://playbook.invalid/channel/noarch/x-1.0-0.conda``. `Places.here` gives
the file on this machine. A channel in the tool's home is on ``nbprovision.invalid``, one in the user's home on
``home.invalid``. Any other ``file://`` URL stays.
"""

from __future__ import annotations

import os
import re
from pathlib import Path
from urllib.parse import urlsplit, urlunsplit

import msgspec

from nbprovision.machine.locked import HOME, PLACES, PLAYBOOK, TOOL
from nbprovision.system import secrets

# A channel's token is the first part of its path (https://docs.conda.io/projects/conda, "channel URLs with a token").
_TOKEN = re.compile(r"^/t/[^/]+(?=/)")


class Places(msgspec.Struct, frozen=True):
    """The folders of this machine that a lock names in another way.

    Attributes:
        playbook: The folder of the playbook.
        tool: The tool's home.
        home: The user's home.

    """

    playbook: Path
    tool: Path
    home: Path

    @property
    def _pairs(self) -> tuple[tuple[str, str], ...]:
        """The folders' URLs, each with its URL in a lock; first those that lie in others."""
        pairs = ((self.playbook, PLAYBOOK), (self.tool, TOOL), (self.home, HOME))
        urls = [
            (folder.as_uri().removesuffix("/"), place) for folder, place in pairs
        ]  # the one for / ends with a slash
        return tuple(sorted(urls, key=lambda pair: -len(pair[0])))

    def locked(self, url: str) -> str:
        """The URL as a lock has it."""
        url = clean(url)
        for folder, place in self._pairs:
            if url == folder or url.startswith(f"{folder}/"):
                return place + url[len(folder) :]
        return url

    def here(self, url: str) -> str:
        """The URL on this machine of a URL in a lock."""
        if not url.startswith(PLACES):
            return url
        for folder, place in self._pairs:
            if url == place or url.startswith(f"{place}/"):
                return folder + url[len(place) :]
        return url

    def again(self, url: str) -> str:
        """The URL that a lock would have today: on one machine a folder may lie in another one, or be the same."""
        return self.locked(self.here(url))

    def text(self, text: str) -> str:
        """A spec or requirement as a lock has it: paths begin at the playbook, and nothing is secret."""
        for folder in (self.playbook.as_uri(), str(self.playbook)):
            text = re.sub(rf"{re.escape(folder)}(?=/|$)", ".", text)
        text = re.sub(r"[A-Za-z][A-Za-z0-9+.-]*://[^\s;]+", lambda match: clean(match[0]), text)
        return secrets.mask(text)

    def path(self, path: Path, folder: Path) -> str:
        """A path as a lock in ``folder`` has it: relative if it lies beside the playbook."""
        if path == self.playbook or self.playbook in path.parents:
            return os.path.relpath(path, folder)
        return str(path)


def clean(url: str) -> str:
    """The URL without password, token and secret parameters; ``git`` remains as the user of ssh."""
    parts = urlsplit(url)
    if not parts.netloc and not parts.query:
        return url
    user, at, host = parts.netloc.rpartition("@")
    if at and user == "git" and parts.scheme.endswith("ssh"):
        host = parts.netloc
    query = "&".join(word for word in parts.query.split("&") if word and secrets.mask(f"?{word}") == f"?{word}")
    return urlunsplit((parts.scheme, host, _TOKEN.sub("", parts.path), query, parts.fragment))
