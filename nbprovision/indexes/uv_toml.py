"""Edits uv.toml: the indexes and what belongs to them; every other byte of the file stays as it is.

https://docs.astral.sh/uv/reference/settings/ names the settings.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from nbprovision.files.checked_edit import edit_configuration, refusal
from nbprovision.indexes.index_settings import BYTE_ORDER_MARK, parse_uv_toml, place

# "default": the URL of the default index; "extra": the URLs of further ones, first looked into; the rest are
# settings of uv by their own names.
Asked = dict[str, list[str]]

_PLAIN = ("index-strategy",)
_LISTS = ("find-links", "allow-insecure-host")


def values(path: Path, text: str | None) -> Asked:
    """What a uv.toml says of indexes; ``path`` is for messages.

    Raises:
        TaskFailed: it is no TOML.
    """
    document = parse_uv_toml(path, text) if text else {}
    found: Asked = {}
    for index in _indexes(document):
        if index.get("default"):
            found.setdefault("default", [str(index.get("url"))])
        elif not index.get("explicit"):
            found.setdefault("extra", []).append(str(index.get("url")))
    for name in _PLAIN:
        if isinstance(document.get(name), str):
            found[name] = [document[name]]
    for name in _LISTS:
        if isinstance(document.get(name), list):
            found[name] = [str(word) for word in document[name]]
    return found


def matching(path: Path, text: str | None, asked: Asked) -> Asked:
    """Those of ``asked`` that ``text`` has, with just these values; of further indexes those that are there."""
    there = values(path, text)
    found = {name: words for name, words in asked.items() if name != "extra" and there.get(name) == words}
    extra = [url for url in asked.get("extra", []) if url in there.get("extra", [])]
    return {**found, "extra": extra} if extra else found


def merged(path: Path, text: str | None, asked: Asked) -> str:
    """``text`` with the settings of ``asked``; indexes that it has besides stay.

    Raises:
        TaskFailed: it is no TOML, or cannot be edited with certainty.
    """

    def act(document: Any) -> None:
        for name, words in asked.items():
            if name == "default":
                _set_default(document, words[0])
            elif name == "extra":
                there = [str(index.get("url")) for index in _indexes(document) if _is_extra(index)]
                for url in words:
                    if url not in there:
                        _add_index(document, {"url": url})
            else:
                document[name] = words[0] if name in _PLAIN else words

    return _edited(path, text, act, new=_new(asked))


def without(path: Path, text: str, asked: Asked) -> str | None:
    """``text`` without the settings of ``asked``, whatever value they have; None when nothing is left.

    Raises:
        TaskFailed: it is no TOML, or cannot be edited with certainty.
    """

    def act(document: Any) -> None:
        for name, words in asked.items():
            _take_out(document, name, words)

    result = _edited(path, text, act)
    return result if result.strip() else None


def undone(path: Path, text: str, before: str | None, asked: Sequence[Asked], *, forced: bool = False) -> str | None:
    """``text`` with what we have put into it given back, and what others have changed since then kept.

    Further indexes are given back one by one.

    Args:
        path: The file, for messages.
        text: What is there now.
        before: What was there before we wrote for the first time, None for no file.
        asked: What we have set, run by run; URLs without user and password.
        forced: Give back also those of our options that others have changed, as we are going to set them again.

    Returns:
        The new text, None where no file is left.

    Raises:
        TaskFailed: one of the texts is no TOML, or ``text`` cannot be edited with certainty.

    """
    now, then = values(path, text), values(path, before)

    def act(document: Any) -> None:
        for ours in asked:
            for name, words in ours.items():
                there = now.get(name, [])
                if name == "extra":
                    ours_only = [url for url in there if place(url) in words and url not in then.get(name, [])]
                    _take_out(document, name, ours_only)
                elif there == then.get(name) or not (forced or [place(word) for word in there] == words):
                    continue  # as it was, or changed since
                elif name not in then:
                    _take_out(document, name, there)
                elif name == "default":
                    _set_default(document, then[name][0])
                else:
                    document[name] = then[name][0] if name in _PLAIN else then[name]

    result = _edited(path, text, act)
    return None if before is None and not result.strip() else result


def _edited(path: Path, text: str | None, act: Callable[[Any], None], new: str | None = None) -> str:
    """The text after ``act``, which is done to the document and, for comparison, to the plain data of the file.

    Args:
        path: The file, for messages.
        text: What is there, None for no file.
        act: Changes a document of tomlkit, or the dict of a parser that knows nothing of it.
        new: The result for a file that has nothing to keep.

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
    """Tomlkit would write a new table behind a last line that has no end into that line."""
    return text if not text or text.endswith("\n") else text + ("\r\n" if "\r\n" in text else "\n")


def _new(asked: Asked) -> str:
    """A file with nothing to keep; after each restart there is one, and the library takes long to import."""
    lines = [f"{name} = {_toml(asked[name][0])}" for name in _PLAIN if name in asked]
    lines += [f"{name} = [{', '.join(map(_toml, asked[name]))}]" for name in _LISTS if name in asked]
    blocks = ["\n".join(lines)] if lines else []
    blocks += [f"[[index]]\nurl = {_toml(url)}\ndefault = true" for url in asked.get("default", [])[:1]]
    blocks += [f"[[index]]\nurl = {_toml(url)}" for url in dict.fromkeys(asked.get("extra", []))]
    return "\n\n".join(blocks) + "\n"


def _toml(text: str) -> str:
    """A basic string (https://toml.io/en/v1.0.0#string), which takes JSON's escapes but for one character."""
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
