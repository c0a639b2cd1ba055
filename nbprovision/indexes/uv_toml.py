"""Set and revert the index settings of uv.toml; every other byte of the file stays as it is.

https://docs.astral.sh/uv/reference/settings/ lists the settings.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from nbprovision.files.checked_edit import edit_configuration, refusal
from nbprovision.indexes.index_settings import BYTE_ORDER_MARK, parse_uv_toml, place

# "default": the URL of the default index; "extra": the URLs of further indexes, which uv searches first; the others
# have the names of uv's settings.
Settings = dict[str, list[str]]

_PLAIN = ("index-strategy",)
_LISTS = ("find-links", "allow-insecure-host")


def values(path: Path, text: str | None) -> Settings:
    """The index settings of a uv.toml; ``path`` is for messages.

    Raises:
        TaskFailed: it is not valid TOML.
    """
    document = parse_uv_toml(path, text) if text else {}
    settings: Settings = {}
    for index in _indexes(document):
        if index.get("default"):
            settings.setdefault("default", [str(index.get("url"))])
        elif not index.get("explicit"):
            settings.setdefault("extra", []).append(str(index.get("url")))
    for name in _PLAIN:
        if isinstance(document.get(name), str):
            settings[name] = [document[name]]
    for name in _LISTS:
        if isinstance(document.get(name), list):
            settings[name] = [str(word) for word in document[name]]
    return settings


def matching(path: Path, text: str | None, settings: Settings) -> Settings:
    """Those of ``settings`` that ``text`` has, with exactly these values, and each further index that it has."""
    present = values(path, text)
    same = {name: words for name, words in settings.items() if name != "extra" and present.get(name) == words}
    extra = [url for url in settings.get("extra", []) if url in present.get("extra", [])]
    return {**same, "extra": extra} if extra else same


def merged(path: Path, text: str | None, settings: Settings) -> str:
    """``text`` with ``settings``; its other indexes stay.

    Raises:
        TaskFailed: it is not valid TOML, or cannot be edited with certainty.
    """

    def act(document: Any) -> None:
        for name, words in settings.items():
            if name == "default":
                _set_default(document, words[0])
            elif name == "extra":
                present = [str(index.get("url")) for index in _indexes(document) if _is_extra(index)]
                for url in words:
                    if url not in present:
                        _add_index(document, {"url": url})
            else:
                document[name] = words[0] if name in _PLAIN else words

    return _edited(path, text, act, new=_new(settings))


def without(path: Path, text: str, settings: Settings) -> str | None:
    """``text`` without ``settings``, whatever their values; None for no file.

    Raises:
        TaskFailed: it is not valid TOML, or cannot be edited with certainty.
    """

    def act(document: Any) -> None:
        for name, words in settings.items():
            _take_out(document, name, words)

    result = _edited(path, text, act)
    return result if result.strip() else None


def undone(path: Path, text: str, before: str | None, ours: Sequence[Settings], *, forced: bool = False) -> str | None:
    """``text`` with our settings reverted, and later changes by others kept. Each further index is one setting.

    Args:
        path: The file, for messages.
        text: Its present text.
        before: Its text before our first change, None for no file.
        ours: Our settings, run by run; URLs without user and password.
        forced: Revert our settings even if others have changed them, as they will be set again.

    Returns:
        The new text, None for no file.

    Raises:
        TaskFailed: one of the texts is not valid TOML, or ``text`` cannot be edited with certainty.

    """
    present, original = values(path, text), values(path, before)

    def act(document: Any) -> None:
        for name, words in (item for settings in ours for item in settings.items()):
            now = present.get(name, [])
            if name == "extra":
                added = [url for url in now if place(url) in words and url not in original.get(name, [])]
                _take_out(document, name, added)
            elif now == original.get(name) or not (forced or [place(word) for word in now] == words):
                continue  # as before our change, or changed since
            elif name not in original:
                _take_out(document, name, now)
            elif name == "default":
                _set_default(document, original[name][0])
            else:
                document[name] = original[name][0] if name in _PLAIN else original[name]

    result = _edited(path, text, act)
    return None if before is None and not result.strip() else result


def _edited(path: Path, text: str | None, act: Callable[[Any], None], new: str | None = None) -> str:
    """The text after ``act``, which changes tomlkit's document and, for comparison, the plain data of the file.

    Args:
        path: The file, for messages.
        text: Its present text, None for no file.
        act: Changes a document of tomlkit, or a plain dict.
        new: The result for a file with nothing to keep.

    """
    expected: dict[str, Any] = parse_uv_toml(path, text) if text else {}
    act(expected)

    def parse(result: str) -> dict[str, Any]:
        return parse_uv_toml(path, result)

    if not text and new is not None:
        return edit_configuration(path, new, parse, expected) or ""
    import tomlkit
    from tomlkit.exceptions import TOMLKitError

    mark = BYTE_ORDER_MARK if text and text.startswith(BYTE_ORDER_MARK) else ""
    try:
        document = tomlkit.parse(_with_end((text or "").removeprefix(mark)))
        act(document)
        result = mark + tomlkit.dumps(document)
    except (TOMLKitError, ArithmeticError, AttributeError, LookupError, TypeError, ValueError) as error:
        raise refusal(path, f"the editor for TOML stops at it ({type(error).__name__})") from error
    return edit_configuration(path, result, parse, expected) or ""


def _with_end(text: str) -> str:
    """``text`` with a line end, without which tomlkit would append a new table to the last line."""
    return text if not text or text.endswith("\n") else text + ("\r\n" if "\r\n" in text else "\n")


def _new(settings: Settings) -> str:
    """A new file, written without tomlkit: a restart needs one, and the library takes long to import."""
    lines = [f"{name} = {_toml(settings[name][0])}" for name in _PLAIN if name in settings]
    lines += [f"{name} = [{', '.join(map(_toml, settings[name]))}]" for name in _LISTS if name in settings]
    blocks = ["\n".join(lines)] if lines else []
    blocks += [f"[[index]]\nurl = {_toml(url)}\ndefault = true" for url in settings.get("default", [])[:1]]
    blocks += [f"[[index]]\nurl = {_toml(url)}" for url in dict.fromkeys(settings.get("extra", []))]
    return "\n\n".join(blocks) + "\n"


def _toml(text: str) -> str:
    """A basic string (https://toml.io/en/v1.0.0#string), which has JSON's escapes except for one character."""
    return json.dumps(text, ensure_ascii=False).replace("\x7f", "\\u007f")


def _indexes(document: Any) -> list[Any]:
    return [index for index in document.get("index", []) if isinstance(index, dict)]


def _is_extra(index: Any) -> bool:
    return not index.get("default") and not index.get("explicit")


def _set_default(document: Any, url: str) -> None:
    for index in _indexes(document):
        if index.get("default"):
            index["url"] = url
            return
    _add_index(document, {"url": url, "default": True})


def _add_index(document: Any, values: dict[str, Any]) -> None:
    if type(document) is dict:
        document.setdefault("index", []).append(dict(values))
        return
    import tomlkit

    if "index" not in document:
        document["index"] = tomlkit.aot()
    indexes: Any = document["index"]
    index = tomlkit.table() if isinstance(indexes, tomlkit.items.AoT) else tomlkit.inline_table()
    index.update(values)
    indexes.append(index)


def _take_out(document: Any, name: str, words: list[str]) -> None:
    if name not in ("default", "extra"):
        document.pop(name, None)
        return
    indexes: Any = document.get("index", [])
    for number in reversed(range(len(indexes))):
        index = indexes[number]
        if index.get("url") in words and (index.get("default") if name == "default" else _is_extra(index)):
            del indexes[number]
    if "index" in document and not indexes:
        del document["index"]
