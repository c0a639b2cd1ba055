"""Edits pip.conf: sets and gives back single options; every other byte of the file stays as it is."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from nbprovision.facts.indexes import normalized, parse_pip_conf, place

if TYPE_CHECKING:
    from configupdater import ConfigUpdater

# Options by "section.option", each with its words.
Asked = dict[str, list[str]]


def values(path: Path, text: str | None) -> Asked:
    """What a pip.conf says, option by option; ``path`` is for messages.

    Raises:
        TaskFailed: it is no configuration file.
    """
    sections = parse_pip_conf(path, text) if text else {}
    return {
        f"{section}.{option}": value.split()
        for section, settings in sections.items()
        for option, value in settings.items()
    }


def matching(path: Path, text: str | None, asked: Asked) -> Asked:
    """Those of ``asked`` that ``text`` has, with just these values."""
    there = values(path, text)
    return {name: words for name, words in asked.items() if there.get(name) == words}


def merged(text: str | None, asked: Asked) -> str:
    """``text`` with the options of ``asked`` set; a new option comes after the last one of its section."""
    if not text:
        return _new(asked)
    document = _parsed(text)
    for name, words in asked.items():
        _set(document, name, words)
    return str(document)


def without(text: str, asked: Asked) -> str | None:
    """``text`` without the options of ``asked`` and the sections that this empties; None when nothing is left."""
    document = _parsed(text)
    for name in asked:
        _remove(document, name)
    return str(document) if str(document).strip() else None


def undone(path: Path, text: str, before: str | None, asked: Sequence[Asked], *, forced: bool = False) -> str | None:
    """``text`` with what we have put into it given back, and what others have changed since then kept.

    Args:
        path: The file, for messages.
        text: What is there now.
        before: What was there before we wrote for the first time, None for no file.
        asked: What we have set, run by run; URLs without user and password.
        forced: Give back also those of our options that others have changed, as we are going to set them anew.

    Returns:
        The new text, None where no file is left.

    """
    now, then = values(path, text), values(path, before)
    document = _parsed(text)
    for ours in asked:
        for name, words in ours.items():
            there = now.get(name, [])
            if there == then.get(name) or not (forced or [place(word) for word in there] == words):
                continue  # as it was, or changed since
            if name in then:
                _copy(_parsed(before), document, name)
            else:
                _remove(document, name)
    result = str(document)
    return None if before is None and not result.strip() else result


def _new(asked: Asked) -> str:
    """A file with nothing to keep; after each restart there are some, and the library takes long to import."""
    sections: dict[str, list[str]] = {}
    for name, words in asked.items():
        section, _, option = name.partition(".")
        value = f" {words[0]}" if len(words) == 1 else "".join(f"\n    {word}" for word in words)
        sections.setdefault(section, []).append(f"{option} ={value}\n")
    return "\n".join(f"[{section}]\n{''.join(lines)}" for section, lines in sections.items())


def _parsed(text: str | None) -> ConfigUpdater:
    from configupdater import ConfigUpdater

    document = ConfigUpdater()
    document.optionxform = normalized  # type: ignore[method-assign, assignment]
    # Its releases for Python 3.10 would put a new option into a last line that has no end.
    document.read_string(text + "\n" if text and not text.endswith("\n") else text or "")
    return document


def _set(document: ConfigUpdater, name: str, words: list[str]) -> None:
    section_name, _, option = name.partition(".")
    if not document.has_section(section_name):
        if document.sections():
            document[document.sections()[-1]].add_after.space(1)
        document.add_section(section_name)
    section = document[section_name]
    if option not in section:
        last = next(reversed(list(section.iter_options())), None)
        if last is None:
            section[option] = ""
        else:
            last.add_after.option(option, "")
    if len(words) == 1:
        section[option].value = words[0]
    else:
        section[option].set_values(words)


def _copy(source: ConfigUpdater, target: ConfigUpdater, name: str) -> None:
    section, _, option = name.partition(".")
    _set(target, name, [line for line in (source[section][option].value or "").split("\n") if line.strip()] or [""])


def _remove(document: ConfigUpdater, name: str) -> None:
    section, _, option = name.partition(".")
    if not document.has_option(section, option):
        return
    document.remove_option(section, option)
    if not str(document[section]).partition("\n")[2].strip():
        document.remove_section(section)
