"""Recognises documents of other tools, and knows the task that uses each."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from nbprovision.playbook.yaml_nodes import MapNode, Node
from nbprovision.system.reading import read_bytes

_REQUIREMENTS = re.compile(r"(^|[/_.-])(requirements|constraints)[\w.-]*\.(txt|in)$")
_LARGEST = 16 << 20  # bytes; a lock file of conda-lock may have several MiB
_CONDA_EXPORT = re.compile(r"(?m)^[a-z0-9_.-]+=[^=\s]+=\S+$|^# \$ conda create --name ")


# The documents that a parameter marked with a kind takes.
WANTED = {
    "environment": "an environment.yml, a pixi.lock or a file with @EXPLICIT",
    "requirements": "a requirements file of pip",
    "pylock": "a pylock.toml",
}
_PYLOCK_NAME = re.compile(r"pylock(\.[^.]+)?\.toml")


class Document(NamedTuple):
    """A recognised document.

    Attributes:
        kind: The word that marks a field for such documents (see `parameters`).
        what: The same for people.
        task: The kind of task that uses it, empty for none.
        parameters: The lines below the task's key.
        advice: Further or other advice.

    """

    kind: str
    what: str
    task: str = ""
    parameters: tuple[str, ...] = ()
    advice: str = ""

    @property
    def as_playbook(self) -> str:
        """Advice with a playbook that uses the document."""
        play = f"- hosts: localhost\n  tasks:\n    - {self.task}: {{{', '.join(self.parameters)}}}"
        return self._cure("write a playbook that uses it:", play)

    @property
    def as_task(self) -> str:
        """Advice with the task that uses the document."""
        task = "".join(f"\n    {parameter}" for parameter in self.parameters)
        return self._cure("this uses it:", f"- {self.task}:{task}")

    def _cure(self, before: str, lines: str) -> str:
        return "\n".join(filter(None, (f"{before}\n{lines}" if self.task else "", self.advice)))


def named(path: Path, node: Node | None = None) -> Document | None:
    """Recognise a document that is not a playbook.

    Args:
        path: Its file; some kinds have fixed names (https://peps.python.org/pep-0751/ for ``pylock.toml``).
        node: Its content, if it can be read as YAML.

    Returns:
        The document; None if its kind is unknown.

    """
    document = _by_name(path, path.name)
    if document is None and _has(node, "nbformat", "cells"):
        document = _notebook(path.name)
    if document is None and (_has(node, "dependencies") or _has(node, "channels", "name")):
        document = _environment(path.name)
    if document is None and (path.name in (".condarc", "condarc") or _has(node, "channels")):
        document = Document("condarc", "a configuration of conda", "ensure_condarc", ("channels: [...]",))
    if document is None and (_has(node, "all") or path.name.lower() in ("hosts", "inventory", "inventory.ini")):
        leave = "leave it out: a playbook runs on this machine only"
        document = Document("inventory", "an inventory of Ansible", advice=leave)
    return document


def recognised(path: Path, shown: str) -> Document | None:
    """Recognise the file in a task's parameter by its content, or else by its name.

    Args:
        path: The file.
        shown: Its path in the playbook.

    Returns:
        The document; None if its kind is unknown or the file cannot be read.

    """
    try:
        content = read_bytes(path, most=_LARGEST)
    except OSError:
        return None
    text = content.decode("utf-16" if content[:2] in (b"\xff\xfe", b"\xfe\xff") else "utf-8", "replace")
    document = next(_by_content(path, text, shown), None)
    if document is None:
        document = _by_name(path, shown)
        # `conda list --export` is often written into a requirements.txt.
        if document is not None and document.kind == "requirements" and _CONDA_EXPORT.search(text):
            return None
    return document


def _by_content(path: Path, text: str, shown: str) -> Iterator[Document]:
    if re.match(r"\s*\{", text) and '"nbformat"' in text and '"cells"' in text:
        yield _notebook(shown)
    if re.search(r"(?m)^@EXPLICIT\s*$", text):
        yield _environment(shown, "a list of URLs of packages (`conda list --explicit`)")
    if re.search(r"(?m)^metadata:", text) and re.search(r"(?m)^package:", text):
        yield Document(
            "conda-lock", "a lock file of conda-lock", "ensure_conda_env", ("name: NAME", "file: environment.yml"),
            "with the file that the lock was made from, or that `conda-lock render --kind explicit` writes",
        )  # fmt: skip
    if re.search(r"(?m)^environments:", text) and re.search(r"(?m)^packages:", text) and "- conda: " in text:
        yield _environment(shown, "a lock file of pixi")
    if re.search(r"(?m)^\[\[package\]\]", text):
        yield Document(
            "uv-lock", "a lock file of uv", "ensure_pip_pkg", ("env: NAME", "requirements: pylock.toml"),
            "with a file made by: uv export --format pylock.toml -o pylock.toml",
        )  # fmt: skip
    if re.search(r"(?m)^\[(\[packages\]|packages)\]", text):
        yield _pylock(path, shown)
    if re.search(r"(?m)^\[(project|build-system|tool\.[\w.-]+)\]", text):
        yield _project(path, shown)
    if re.search(r"(?m)^[\"']?dependencies[\"']?\s*:", text):
        yield _environment(shown)
    if re.search(r"(?m)^- *(hosts|tasks|roles|import_playbook) *:", text) or (
        re.search(r"(?m)^- *\w+ *:", text) and re.search(r"(?m)^  *(hosts|tasks|roles) *:", text)
    ):
        yield Document("playbook", "a playbook", advice=f"run it: nbprovision run {shown}")


def _by_name(path: Path, shown: str) -> Document | None:
    name = path.name.lower()
    if _REQUIREMENTS.search(name):
        return Document(
            "requirements", "a requirements file of pip", "ensure_pip_pkg", ("env: NAME", f"requirements: {shown}")
        )
    if name.endswith(".ipynb"):
        return _notebook(shown)
    if name.startswith("pylock.") and name.endswith(".toml"):
        return _pylock(path, shown)
    if name == "pyproject.toml":
        return _project(path, shown)
    return None


def _environment(shown: str, what: str = "an environment.yml of conda") -> Document:
    return Document("environment", what, "ensure_conda_env", ("name: NAME", f"file: {shown}"))


def _notebook(shown: str) -> Document:
    place = f"path: PLACE/{shown.rpartition('/')[2]}"
    return Document("notebook", "a notebook", "ensure_file", (place, f"src: {shown}"))


def _project(path: Path, shown: str) -> Document:
    folder = f"./{shown.rpartition('/')[0]}".rstrip("/") if not shown.startswith(("/", "~")) else str(path.parent)
    return Document("project", "a Python project", "ensure_pip_pkg", ("env: NAME", f"packages: [{folder}]"))


def _pylock(path: Path, shown: str) -> Document:
    what, task = "a lock file of pip and uv", "ensure_pip_pkg"
    if _PYLOCK_NAME.fullmatch(path.name):
        return Document("pylock", what, task, ("env: NAME", f"requirements: {shown}"))
    return Document(
        "misnamed-pylock", what, task, ("env: NAME", "requirements: pylock.NAME.toml"),
        "with the file under such a name, as PEP 751 wants it",
    )  # fmt: skip


def _has(node: Node | None, *keys: str) -> bool:
    return isinstance(node, MapNode) and all(node.get(key) is not None for key in keys)
