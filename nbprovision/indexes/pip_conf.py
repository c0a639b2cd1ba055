"""Edits pip.conf: sets and gives back single options; every other byte of the file stays as it is.

pip reads the file with `configparser.RawConfigParser`, for which indentation has a meaning: a line that is indented
deeper than the option above it continues that option's value. So a new option takes the indentation of its neighbours.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from configparser import RawConfigParser
from pathlib import Path
from typing import NamedTuple

from nbprovision.files.checked_edit import edit_configuration
from nbprovision.indexes.index_settings import normalized, parse_pip_conf, place

# Options by "section.option", each with its words.
Asked = dict[str, list[str]]
# The new words of options; None for an option that goes.
Changes = Mapping[str, "list[str] | None"]


def values(path: Path, text: str | None) -> Asked:
    """What a pip.conf says, option by option; ``path`` is for messages.

    Raises:
        TaskFailed: it is not a configuration file.
    """
    return {name: value.split() for name, value in _settings(path, text).items()}


def matching(path: Path, text: str | None, asked: Asked) -> Asked:
    """Those of ``asked`` that ``text`` has, with just these values."""
    there = values(path, text)
    return {name: words for name, words in asked.items() if there.get(name) == words}


def merged(path: Path, text: str | None, asked: Asked) -> str:
    """``text`` with the options of ``asked`` set; a new option comes after the last one of its section.

    Raises:
        TaskFailed: it is not a configuration file, or cannot be edited with certainty.
    """
    return _edited(path, text or "", asked)


def without(path: Path, text: str, asked: Asked) -> str | None:
    """``text`` without the options of ``asked`` and the sections that this empties; None when nothing is left.

    Raises:
        TaskFailed: it is not a configuration file, or cannot be edited with certainty.
    """
    result = _edited(path, text, dict.fromkeys(asked))
    return result if result.strip() else None


def undone(path: Path, text: str, before: str | None, asked: Sequence[Asked], *, forced: bool = False) -> str | None:
    """``text`` with what we have put into it given back, and what others have changed since then kept.

    Args:
        path: The file, for messages.
        text: What is there now.
        before: What was there before we wrote for the first time, None for no file.
        asked: What we have set, run by run; URLs without user and password.
        forced: Give back also those of our options that others have changed, as we are going to set them again.

    Returns:
        The new text, None where no file is left.

    Raises:
        TaskFailed: one of the texts is not a configuration file, or ``text`` cannot be edited with certainty.

    """
    now, then = values(path, text), values(path, before)
    changes: dict[str, list[str] | None] = {}
    for ours in asked:
        for name, words in ours.items():
            there = now.get(name, [])
            if there == then.get(name) or not (forced or [place(word) for word in there] == words):
                continue  # as it was, or changed since
            lines = _settings(path, before).get(name, "").split("\n")
            changes[name] = ([line for line in lines if line.strip()] or [""]) if name in then else None
    result = _edited(path, text, changes)
    return None if before is None and not result.strip() else result


def _settings(path: Path, text: str | None) -> dict[str, str]:
    """Values by "section.option", each in the section that it stands in: [DEFAULT] is one like the others here."""
    sections = parse_pip_conf(path, text, defaults=False) if text else {}
    return {
        f"{section}.{option}": value for section, settings in sections.items() for option, value in settings.items()
    }


def _edited(path: Path, text: str, changes: Changes) -> str:
    """The text with the changes, parsed again before it is handed out."""
    expected: dict[str, str | list[str]] = {**_settings(path, text)}
    result = text
    for name, words in changes.items():
        expected.pop(name, None)
        if words is None:
            result = _removed(result, name)
        else:
            result = _set(result, name, words)
            expected[name] = " ".join(words).split()

    def parse(new: str) -> dict[str, str | list[str]]:
        return {name: value.split() if name in changes else value for name, value in _settings(path, new).items()}

    return edit_configuration(path, result, parse, expected) or ""


class _Head(NamedTuple):
    """A line that begins a section (no option) or an option; ``end`` is the line behind its last one with a value."""

    section: str
    option: str | None
    indent: str
    start: int
    end: int


def _lines(text: str) -> list[str]:
    """Lines with their ends, as Python's text files have them: other line separators of Unicode end none."""
    return re.findall(r"[^\r\n]*(?:\r\n|\r|\n)|[^\r\n]+", text)


def _heads(lines: Sequence[str]) -> Iterator[_Head]:
    """What begins where, by the rules of ``RawConfigParser._read``."""
    head: _Head | None = None
    for number, line in enumerate(lines):
        content = line.strip()
        if not content or content.startswith(("#", ";")):
            continue
        indent = line[: len(line) - len(line.lstrip())]
        if head is not None and head.option is not None and len(indent) > len(head.indent):
            head = head._replace(end=number + 1)
            continue
        if head is not None:
            yield head
        section = RawConfigParser.SECTCRE.match(content)
        if section is not None:
            head = _Head(section["header"], None, indent, number, number + 1)
        elif head is not None:
            option = RawConfigParser.OPTCRE.match(content)
            head = _Head(
                head.section, normalized(option["option"].rstrip()) if option else "", indent, number, number + 1
            )
    if head is not None:
        yield head


def _set(text: str, name: str, words: list[str]) -> str:
    section, _, option = name.partition(".")
    lines = _lines(text)
    newline = "\r\n" if "\r\n" in text else "\n"
    if lines and not lines[-1].endswith(("\r", "\n")):
        lines[-1] += newline
    heads = list(_heads(lines))
    own = [head for head in heads if head.section == section]
    head = next((head for head in own if head.option == option), None)
    if head is not None:
        spelled = re.match(r"\s*[^=:]*?\s*[=:]", lines[head.start])
        key = spelled[0] if spelled else f"{head.indent}{option} ="
        lines[head.start : head.end] = _option(key, head.indent, words, newline)
    elif own:
        last = own[-1]
        following = next((head for head in heads if head.start >= last.end), None)
        indents = [last.indent]
        if last.option is None and following is not None:
            indents.append(following.indent)  # it must not become a part of the new option's value
        indent = max(indents, key=len)
        lines[last.end : last.end] = _option(f"{indent}{option} =", indent, words, newline)
    else:
        gap = [newline] if heads and lines[-1].strip() else []
        lines += [*gap, f"[{section}]{newline}", *_option(f"{option} =", "", words, newline)]
    return "".join(lines)


def _option(key: str, indent: str, words: list[str], newline: str) -> list[str]:
    if len(words) == 1:
        return [f"{key} {words[0]}".rstrip() + newline]
    return [key + newline, *(f"{indent}    {word}{newline}" for word in words)]


def _removed(text: str, name: str) -> str:
    section, _, option = name.partition(".")
    lines = _lines(text)
    for head in reversed([head for head in _heads(lines) if (head.section, head.option) == (section, option)]):
        del lines[head.start : head.end]
    heads = list(_heads(lines))
    for number, head in enumerate(heads):
        following = heads[number + 1] if number + 1 < len(heads) else None
        end = following.start if following else len(lines)
        bare = head.option is None and (following is None or following.option is None)
        shielded = following is not None and len(following.indent) > len(head.indent)
        if bare and head.section == section and not shielded and not "".join(lines[head.end : end]).strip():
            del lines[head.start : end]
            break
    return "".join(lines)
