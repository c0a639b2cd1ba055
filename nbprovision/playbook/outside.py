"""Reads the machine for templates. Each read is recorded, because the next run checks it."""

from __future__ import annotations

import fnmatch
import os
import re
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import msgspec

from nbprovision.model.errors import InvalidPlaybook, nearest
from nbprovision.playbook import ansible
from nbprovision.playbook.yaml_nodes import read_file
from nbprovision.system.secrets import remember_if_secret

_PLACEHOLDER = re.compile(r"\((?:aws_secret|aws_ssm|tag) [^()]*\)")


def stands_for_a_secret(value: Any) -> bool:
    """Whether this is the placeholder that a check uses for a secret."""
    return isinstance(value, str) and _PLACEHOLDER.fullmatch(value) is not None


class Unset(msgspec.Struct, frozen=True):
    """An unset environment variable; it is undefined in a template."""

    name: str


class Outside:
    """The part of the machine that templates may read: environment variables, and files by name.

    Args:
        folder: The folder where relative paths begin.
        env: The environment variables.

    Attributes:
        env_read: Names of the variables that templates read.
        looked_at: Every path that templates read or look for, and whether it exists.
        secrets_read: The names of the secrets of AWS that templates read; never the values.

    """

    def __init__(self, folder: Path, env: Mapping[str, str]) -> None:
        self.folder = folder
        self.env = env
        self.env_read: set[str] = set()
        self.looked_at: dict[Path, bool] = {}
        self.secrets_read: set[str] = set()
        self.lookups: dict[str, tuple[Callable[..., list[Any]], tuple[str, ...]]] = {
            "env": (self._env, ("default",)),
            "file": (self._file, ("rstrip", "lstrip")),
            "fileglob": (self._fileglob, ()),
            "first_found": (self._first_found, ("skip", "errors")),
            "aws_secret": (self._aws_secret, ("region", "key")),
            "aws_ssm": (self._aws_ssm, ("region",)),
        }

    def lookup(self, kind: str, *terms: Any, **options: Any) -> Any:
        """Return the result of ``lookup(KIND, ...)``: as in Ansible, several values are one text with commas."""
        values = self.query(kind, *terms, **options)
        unset = next((value for value in values if isinstance(value, Unset)), None)
        if unset is not None:
            return unset
        return ",".join(map(str, values)) if len(values) != 1 else values[0]

    def query(self, kind: str, *terms: Any, **options: Any) -> list[Any]:
        """Return the result of ``query(KIND, ...)``: the values as a list.

        Raises:
            InvalidPlaybook: the lookup or an option is unknown, or its file is missing.

        """
        name = str(kind).removeprefix("ansible.builtin.").removeprefix("amazon.aws.")
        if name in ansible.LOOKUPS:
            raise ansible.LOOKUPS[name].fault(f"the lookup '{name}' is not supported")
        if name not in self.lookups:
            raise InvalidPlaybook(
                f"unknown lookup '{name[:40]}'{nearest(name[:40], self.lookups)}",
                cure=f"there are: {', '.join(self.lookups)}",
            )
        function, allowed = self.lookups[name]
        for option in options:
            if option not in allowed:
                raise InvalidPlaybook(
                    f"lookup '{name}' has no option '{option[:40]}'{nearest(option[:40], allowed)}",
                    cure=f"it has: {', '.join(allowed)}" if allowed else "it has none",
                )
        return function(*_flat(terms), **options)

    def variable(self, name: str, default: Any = None) -> Any:
        """Return an environment variable; if it is not set, ``default``, or `Unset` without one."""
        self.env_read.add(name)
        value = self.env.get(name, default)
        if value is None:
            return Unset(name)
        remember_if_secret(name, value)
        return value

    def secret(self, kind: str, name: str, region: str | None) -> str:
        """Return a placeholder for a secret of AWS; only a run reads the secret itself."""
        self.secrets_read.add(f"{kind} {name}")
        return f"({kind} {name})"

    def path(self, text: Any) -> Path:
        """Return the path for a text of the playbook; relative ones begin at its folder."""
        return Path(os.path.normpath(self.folder / self.expanded(str(text))))

    def expanded(self, text: str) -> str:
        """Replace ``~`` by the user's home folder, and ``~NAME`` by that of another user."""
        if text == "~" or text.startswith("~/"):
            home = self.variable("HOME", "")
            return home + text[1:] if home else os.path.expanduser(text)
        return os.path.expanduser(text)

    def status(self, path: Path, *, follow: bool = True) -> os.stat_result | None:
        """Return the status of ``path``; None if it is missing."""
        self.looked_at.setdefault(path, os.path.lexists(path))
        try:
            return os.stat(path) if follow else os.lstat(path)
        except (OSError, ValueError):
            return None

    def resolved(self, path: Path) -> Path:
        """Resolve the links in a path; its folders are recorded too, because one may become a link later."""
        for place in (path, *path.parents[:-1]):
            self.looked_at.setdefault(place, os.path.lexists(place))
        return Path(os.path.realpath(path))

    def globbed(self, pattern: str) -> list[Path]:
        """Return the files (no folders) that match a pattern in its folder, sorted."""
        glob = self.path(pattern)
        self.looked_at.setdefault(glob.parent, os.path.lexists(glob.parent))
        try:
            names = os.listdir(glob.parent)
        except OSError:
            return []
        matching = (glob.parent / name for name in sorted(fnmatch.filter(names, glob.name)))
        return [path for path in matching if os.path.isfile(path)]

    def read(self, path: Path, what: str) -> str:
        """Return the text of a file; messages name it by ``what``. Raises as `yaml_nodes.read_file` does."""
        self.looked_at.setdefault(path, os.path.lexists(path))
        return read_file(path, what)

    def _env(self, *names: Any, default: Any = None) -> list[Any]:
        return [self.variable(str(name), default) for name in names]

    def _aws_secret(self, *names: Any, region: str | None = None, key: str | None = None) -> list[Any]:
        return [self._part(self.secret("aws_secret", str(name), region), str(name), key) for name in names]

    def _aws_ssm(self, *names: Any, region: str | None = None) -> list[Any]:
        return [self.secret("aws_ssm", str(name), region) for name in names]

    @staticmethod
    def _part(value: str, name: str, key: str | None) -> str:
        """Return the text under a key of a secret that is a JSON object; a placeholder stays as it is."""
        if key is None or stands_for_a_secret(value):
            return value
        import json

        try:
            document = json.loads(value)
        except ValueError:
            document = None
        if not isinstance(document, dict) or key not in document:
            keys = (
                f"it has: {', '.join(map(str, document))}" if isinstance(document, dict) else "it is not a JSON object"
            )
            raise InvalidPlaybook(f"the secret '{name}' has no key '{key}'", cause=keys, cure="correct `key`")
        return document[key] if isinstance(document[key], str) else json.dumps(document[key])

    def _file(self, *names: Any, rstrip: bool = True, lstrip: bool = False) -> list[str]:
        texts = [self.read(self.path(name), "file") for name in names]
        texts = [text.rstrip() for text in texts] if rstrip else texts
        return [text.lstrip() for text in texts] if lstrip else texts

    def _fileglob(self, *patterns: Any) -> list[str]:
        return [str(path) for pattern in patterns for path in self.globbed(str(pattern))]

    def _first_found(self, *terms: Any, skip: bool = False, errors: str = "strict") -> list[str]:
        candidates = [self.path(place) for term in terms for place in _places(term)]
        for candidate in candidates:
            if self.status(candidate) is not None:
                return [str(candidate)]
        if skip or errors == "ignore":
            return []
        raise InvalidPlaybook(
            "none of the files of first_found exists",
            cause=f"looked for: {', '.join(map(str, candidates)) or 'nothing'}",
            cure="correct the names, or write skip=true",
        )


def _flat(terms: tuple[Any, ...]) -> Iterator[Any]:
    for term in terms:
        if isinstance(term, list | tuple):
            yield from _flat(tuple(term))
        else:
            yield term


def _places(term: Any) -> Iterator[str]:
    """Return the files of one term of first_found: the file itself, or each of ``files`` in each of ``paths``."""
    if not isinstance(term, Mapping):
        yield str(term)
        return
    for folder in _flat((term.get("paths") or ["."],)):
        for file in _flat((term.get("files") or [],)):
            yield os.path.join(str(folder), str(file))
