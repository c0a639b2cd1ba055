"""What `ensure_pip_index` finds and plans: plain data, and the two kinds of files that it edits."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Literal, Protocol

import msgspec

from nbprovision.files.config_file import Write
from nbprovision.files.configured import ConfigurationFile
from nbprovision.indexes import pip_conf, uv_toml
from nbprovision.indexes.codeartifact import TokenState
from nbprovision.model.result import Plan


class Editor(Protocol):
    """What `pip_config` and `uv_config` both do with the text of their file."""

    def matching(self, path: Path, text: str | None, asked: dict[str, list[str]]) -> dict[str, list[str]]:
        """Those of ``asked`` that are there."""

    def merged(self, path: Path, text: str | None, asked: dict[str, list[str]]) -> str:
        """``text`` with them."""

    def without(self, path: Path, text: str, asked: dict[str, list[str]]) -> str | None:
        """``text`` without them."""

    def undone(
        self, path: Path, text: str, before: str | None, asked: Sequence[dict[str, list[str]]], *, forced: bool = False
    ) -> str | None:
        """``text`` with what was asked for in earlier runs given back."""


EDITORS: dict[str, Editor] = {"pip": pip_conf, "uv": uv_toml}


class Subject(msgspec.Struct, frozen=True):
    """One file of one tool, and what it is to say."""

    tool: Literal["pip", "uv"]
    file: ConfigurationFile
    asked: dict[str, list[str]]


class IndexState(msgspec.Struct, frozen=True):
    """What is there.

    Attributes:
        subjects: The files.
        volume: What survives a restart, None where there is no such difference.
        missing: The environment, where it is neither there nor made by an earlier task of the playbook.
        warnings: What is stronger than the files, and what is seldom meant.
        token: That of an index at CodeArtifact.
    """

    subjects: tuple[Subject, ...]
    volume: Path | None = None
    missing: Path | None = None
    warnings: tuple[str, ...] = ()
    token: TokenState | None = None


class IndexPlan(Plan, frozen=True, kw_only=True):
    """The changes, and the files as they are to be; those with a token to come are made when it is there."""

    writes: tuple[Write, ...] = ()
    token: TokenState | None = None
