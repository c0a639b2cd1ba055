"""What `ensure_condarc` finds and plans, and how what is asked for is merged with what is there: plain data."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import msgspec

from nbprovision.files.configured import ConfigurationFile
from nbprovision.machine.condarc import ALIASES
from nbprovision.model.result import Plan

CHANNELS = ("channels", "default_channels")
FOLDERS = ("envs_dirs", "pkgs_dirs")


class CondarcState(msgspec.Struct, frozen=True, kw_only=True):
    """A .condarc, and what it is to become.

    Attributes:
        file: How it stands.
        wanted: Its text with what is asked for, None for no file.
        place: The file itself, all links followed.
        volume: What survives a restart, None where there is no such difference.
        leads_out: Whether a link in its place leads where the tool has no business.
        missing: The environment, where it is neither there nor made by a task of the playbook.
        warnings: What is stronger than the file, and what is seldom meant.

    """

    file: ConfigurationFile
    wanted: str | None
    place: Path
    volume: Path | None = None
    leads_out: bool = False
    missing: Path | None = None
    warnings: tuple[str, ...] = ()


class CondarcPlan(Plan, frozen=True, kw_only=True):
    """The changes, and the file as it is to be; no text for no file."""

    path: Path = Path()
    text: str | None = None
    mode: int = 0o644


def merged(
    before: Mapping[str, Any], asked: Mapping[str, Any], *, exact: bool, env: Mapping[str, str], home: str
) -> dict[str, Any]:
    """The settings that ``asked`` leads to, by the names that the file uses for them.

    Args:
        before: What the file says.
        asked: What is asked for.
        exact: Whether the user's own entries of lists and mappings go.
        env: The environment variables, for folders that are given by one.
        home: The user's home folder.

    """
    wanted: dict[str, Any] = {}
    for key, value in asked.items():
        name = _name(before, key)
        there = before.get(name)
        if key in CHANNELS + FOLDERS:
            own = [] if exact else _strings(there)
            wanted[name] = _joined(key, value, own, env, home)
        elif isinstance(value, Mapping):
            wanted[name] = _united(there if isinstance(there, Mapping) and not exact else {}, value)
        else:
            wanted[name] = value
    return wanted


def taken_out(
    before: Mapping[str, Any], asked: Mapping[str, Any], *, env: Mapping[str, str], home: str
) -> dict[str, Any]:
    """The settings without what ``asked`` names; None for a setting that goes as a whole."""
    wanted: dict[str, Any] = {}
    for key, value in asked.items():
        name = _name(before, key)
        if name not in before:
            continue
        there = before[name]
        if key in CHANNELS + FOLDERS:
            gone = {same(key, entry, env, home) for entry in value}
            wanted[name] = [entry for entry in _strings(there) if same(key, entry, env, home) not in gone] or None
        elif isinstance(value, Mapping) and isinstance(there, Mapping):
            wanted[name] = _reduced(there, value) or None
        elif there == value:
            wanted[name] = None
    return wanted


def _united(there: Mapping[str, Any], asked: Mapping[str, Any]) -> dict[str, Any]:
    """A mapping with what is asked for in it, at every depth."""
    united = dict(there)
    for name, value in asked.items():
        old = there.get(name)
        united[name] = _united(old, value) if isinstance(old, Mapping) and isinstance(value, Mapping) else value
    return united


def _reduced(there: Mapping[str, Any], asked: Mapping[str, Any]) -> dict[str, Any]:
    """A mapping without the entries that have the values asked for."""
    reduced: dict[str, Any] = {}
    for name, old in there.items():
        value = asked.get(name)
        if isinstance(old, Mapping) and isinstance(value, Mapping):
            left = _reduced(old, value)
            if left:
                reduced[name] = left
        elif name not in asked or value != old:
            reduced[name] = old
    return reduced


def same(key: str, entry: str, env: Mapping[str, str], home: str) -> str:
    """What two spellings of one channel or one folder have in common; passwords and tokens come and go."""
    if key not in FOLDERS:
        return re.sub(r"^([a-z]+://)(?:[^/]*@)?([^/]*)(?:/t/[^/]+)?(/|$)", r"\1\2\3", entry).rstrip("/")
    entry = re.sub(r"\$\{?(\w+)\}?", lambda match: env.get(match[1], match[0]), entry)
    return os.path.normpath(home + entry[1:] if entry == "~" or entry.startswith("~/") else entry)


def _name(before: Mapping[str, Any], key: str) -> str:
    """The name under which the file has the setting; conda refuses a file that has it under two."""
    others = [alias for alias, name in ALIASES.items() if name == key and alias in before]
    return others[0] if others and key not in before else key


def _joined(key: str, asked: list[str], own: list[str], env: Mapping[str, str], home: str) -> list[str]:
    """The entries asked for, then the user's own; an entry that the user has keeps its spelling, but for a password."""
    first = {same(key, entry, env, home): entry for entry in asked}
    there: dict[str, str] = {}
    for entry in own:
        there.setdefault(same(key, entry, env, home), entry)
    for name, entry in first.items():
        if key in FOLDERS or there.get(name, "").rstrip("/") == entry.rstrip("/"):
            first[name] = there.get(name, entry)
    return [*first.values(), *(entry for name, entry in there.items() if name not in first)]


def _strings(value: Any) -> list[str]:
    if isinstance(value, list):
        return [str(entry) for entry in value if entry is not None]
    return [value] if isinstance(value, str) else []
