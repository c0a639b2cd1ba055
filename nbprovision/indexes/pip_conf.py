"""Set and revert single options of pip.conf; every other byte of the file stays as it is.

pip reads the file with `configparser.RawConfigParser`, in which a line with a deeper indentation than the option above
it continues that option's value. So a new option gets the indentation of its neighbours.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from configparser import RawConfigParser
from pathlib import Path
from typing import NamedTuple

from nbprovision.files.checked_edit import edit_configuration
from nbprovision.indexes.index_settings import normalized, parse_pip_conf, place

# The words of options, by "section.option".
Settings = dict[str, list[str]]
# The new words of options; None for an option to remove.
Changes = Mapping[str, "list[str] | None"]


def values(path: Path, text: str | None) -> Settings:
    """The options of a pip.conf; ``path`` is for messages.

    Raises:
        TaskFailed: it is not a configuration file.
    """
    return {name: value.split() for name, value in _settings(path, text).items()}


def matching(path: Path, text: str | None, settings: Settings) -> Settings:
    """Those of ``settings`` that ``text`` has, with exactly these values."""
    present = values(path, text)
    return {name: words for name, words in settings.items() if present.get(name) == words}


def merged(path: Path, text: str | None, settings: Settings) -> str:
    """``text`` with the options of ``settings``; a new option goes to the end of its section.

    Raises:
        TaskFailed: it is not a configuration file, or cannot be edited with certainty.
    """
    return _edited(path, text or "", settings)


def without(path: Path, text: str, settings: Settings) -> str | None:
    """``text`` without the options of ``settings`` and empty sections; None for no file.

    Raises:
        TaskFailed: it is not a configuration file, or cannot be edited with certainty.
    """
    result = _edited(path, text, dict.fromkeys(settings))
    return result if result.strip() else None


def undone(path: Path, text: str, before: str | None, ours: Sequence[Settings], *, forced: bool = False) -> str | None:
    """``text`` with our settings reverted, and later changes by others kept.

    Args:
        path: The file, for messages.
        text: Its present text.
        before: Its text before our first change, None for no file.
        ours: Our settings, run by run; URLs without user and password.
        forced: Revert our settings even if others have changed them, as they will be set again.

    Returns:
        The new text, None for no file.

    Raises:
        TaskFailed: one of the texts is not a configuration file, or ``text`` cannot be edited with certainty.

    """
    present, original = values(path, text), _settings(path, before)
    changes: dict[str, list[str] | None] = {}
    for name, words in (item for settings in ours for item in settings.items()):
        now = present.get(name, [])
        if name in original and now == original[name].split():
            continue  # as before our change
        if forced or [place(word) for word in now] == words:
            lines = [line for line in original.get(name, "").split("\n") if line.strip()]
            changes[name] = (lines or [""]) if name in original else None
    result = _edited(path, text, changes)
    return None if before is None and not result.strip() else result


def _settings(path: Path, text: str | None) -> dict[str, str]:
    """The values by "section.option"; here [DEFAULT] is a section like the others."""
    sections = parse_pip_conf(path, text, defaults=False) if text else {}
    return {
        f"{section}.{option}": value for section, settings in sections.items() for option, value in settings.items()
    }


def _edited(path: Path, text: str, changes: Changes) -> str:
    """The text with the changes, checked by parsing it again."""
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
    """A line that begins a section (no option) or an option; ``end`` is the line after its value."""

    section: str
    option: str | None
    indent: str
    start: int
    end: int


def _lines(text: str) -> list[str]:
    """Lines with their ends, as in Python's text files: other line separators of Unicode do not count."""
    return re.findall(r"[^\r\n]*(?:\r\n|\r|\n)|[^\r\n]+", text)


def _heads(lines: Sequence[str]) -> Iterator[_Head]:
    """The first lines of sections and options, by the rules of ``RawConfigParser._read``."""
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
            indents.append(following.indent)  # otherwise it would continue the value of the new option
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
