"""Keys in a JSON or INI file of the system: they are merged into it, and all else stays.

Sources: RFC 8259; config(5) of OpenSSL for the comments behind values.
"""

from __future__ import annotations

import json
import os
import re
import stat
from collections.abc import Sequence
from typing import Any

from nbprovision.root import tools

_HEADER = re.compile(r"\s*\[\s*([^\[\]]+?)\s*\]\s*(?:[#;].*)?$")
_QUOTED = re.compile(r"\\.|'(?:\\.|[^'\\])*'|\"(?:\\.|[^\"\\])*\"")


def differences(wanted: dict[str, Any], root: str) -> list[str]:
    """Say which file differs.

    Args:
        wanted: ``path``, ``form`` (json, ini), ``values``, ``remove``; ``equals`` and ``comment`` of an INI file.
        root: The folder to take for ``/``.

    """
    text = tools.read(wanted["path"], root)
    return [] if edited(wanted, text) == text else ["change its keys" if text else "make it"]


def bring_about(wanted: dict[str, Any]) -> None:
    """Replace the file by one with the keys, with the same owner and permissions."""
    path = wanted["path"]
    new = edited(wanted, tools.read(path))
    if new is not None:
        mode, owner = 0o644, (0, 0)
        if os.path.lexists(path):
            status = os.lstat(path)
            mode, owner = stat.S_IMODE(status.st_mode), (status.st_uid, status.st_gid)
        tools.write(path, new, mode, owner)


def edited(wanted: dict[str, Any], text: str | None) -> str | None:
    """Return the text with the keys; None for a missing file that stays missing.

    Raises:
        Trouble: it cannot be edited without a loss.

    """
    if text is None and not wanted["values"]:
        return None
    old = text or ""
    if "\ufffd" in old or "\0" in old or "\r" in old:
        raise tools.Trouble("%s has other characters than lines of UTF-8, and stays as it is" % wanted["path"])
    try:
        return (_json if wanted["form"] == "json" else _ini)(wanted, old)
    except (ValueError, RecursionError) as error:  # JSONDecodeError, with line and column
        raise tools.Trouble("%s cannot be edited, and stays as it is: %s" % (wanted["path"], error)) from None


# ---------------------------------------------------------------------------------------------------------------- JSON


def _json(wanted: dict[str, Any], old: str) -> str:
    data = json.loads(old, object_pairs_hook=_object) if old.strip() else {}
    if not isinstance(data, dict):
        raise ValueError("its top level is not an object")  # noqa: TRY004 - a fault of the file
    before = _dumped(data)
    for keys in wanted["remove"]:
        _remove(data, keys)
    _merge(data, wanted["values"])
    if _dumped(data) == before and old:
        return old
    indentation = re.search(r"\n([ \t]+)\"", old)
    # One line stays one line.
    indent = indentation[1] if indentation else None if "\n" not in old.strip() and data and before != "{}" else "  "
    new = _dumped(data, indent)
    new.encode()  # ValueError for half a character
    return new + ("\n" if old.endswith("\n") or not old else "")


def _dumped(data: dict[str, Any], indent: str | None = None) -> str:
    return json.dumps(data, indent=indent, ensure_ascii=False, allow_nan=False)


def _object(pairs: Sequence[tuple[str, Any]]) -> dict[str, Any]:
    data = dict(pairs)
    if len(data) != len(pairs):
        raise ValueError("a key occurs twice in one object")
    return data


def _merge(data: dict[str, Any], values: dict[str, Any]) -> None:
    for key, value in values.items():
        if isinstance(value, dict) and isinstance(data.get(key), dict):
            _merge(data[key], value)
        else:
            data[key] = value


def _remove(data: Any, keys: Sequence[str]) -> None:
    for key in keys[:-1]:
        data = data.get(key) if isinstance(data, dict) else None
    if isinstance(data, dict):
        data.pop(keys[-1], None)


# ----------------------------------------------------------------------------------------------------------------- INI


def _ini(wanted: dict[str, Any], old: str) -> str:
    lines = old.splitlines()
    for section, *keys in wanted["remove"]:
        for number in reversed(_lines_of(lines, section)):
            if not keys or _key(lines[number]) == keys[0]:
                _refuse_more(lines, number)
                del lines[number]
    for section, values in wanted["values"].items():
        for key, value in values.items():
            _set(lines, section, key, value, wanted)
    return old if lines == old.splitlines() else "\n".join(lines) + "\n"


def _set(lines: list[str], section: str, key: str, value: str, wanted: dict[str, Any]) -> None:
    inside = _lines_of(lines, section)
    numbers = [number for number in inside if _key(lines[number]) == key]
    if len(numbers) > 1:
        raise ValueError("%s occurs twice in [%s]" % (key, section))
    new = "%s%s%s" % (key, wanted["equals"], value)
    if not numbers:
        keys = [number for number in inside if _key(lines[number]) or _HEADER.match(lines[number])]
        if not inside and section:
            lines += [""] * bool(lines and lines[-1].strip()) + ["[%s]" % section]
            keys = [len(lines) - 1]
        lines.insert(keys[-1] + 1 if keys else 0, new)
        return
    line = lines[numbers[0]]
    head = re.match(r"\s*[^=:]*?\s*[=:]\s*", line)
    start = head.end() if head else len(line)
    end = len(line)
    if wanted["comment"]:
        place = _QUOTED.sub(lambda match: "_" * len(match[0]), line).find(wanted["comment"], start)
        end = len(line[:place].rstrip()) if place >= 0 else end
    if line[start:end].strip() != value:
        _refuse_more(lines, numbers[0])
        lines[numbers[0]] = line[:start] + value + line[max(start, end) :] if head else new


def _lines_of(lines: Sequence[str], section: str) -> list[int]:
    """Return the numbers of a section's lines, its headers among them; it may begin several times."""
    here, numbers = "", []
    for number, line in enumerate(lines):
        header = _HEADER.match(line)
        here = header[1] if header else here
        if here == section:
            numbers.append(number)
    return numbers


def _key(line: str) -> str:
    """Return the key of a line; empty for a comment, a header or a blank line."""
    text = line.strip()
    if not text or text[0] in "#;[":
        return ""
    return re.split(r"\s*[=:]", text, maxsplit=1)[0]


def _refuse_more(lines: Sequence[str], number: int) -> None:
    """Refuse a value of several lines."""
    after = lines[number + 1] if number + 1 < len(lines) else ""
    indented = len(after) - len(after.lstrip()) > len(lines[number]) - len(lines[number].lstrip())
    if lines[number].endswith("\\") or (indented and after.strip()[:1] not in ("#", ";", "") and "=" not in after):
        raise ValueError("line %d has a value of several lines" % (number + 1))
