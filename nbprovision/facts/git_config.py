"""Git's configuration files: what they say, and edits that leave all else as it is.

Sources: https://git-scm.com/docs/git-config#_configuration_file, and for what is written ``write_pair`` of git's own.
No git has to be there, as a notebook is often set up before its tools; one that is there judges what is written.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from nbprovision.facts.checked_edit import edit_configuration
from nbprovision.system import commands
from nbprovision.system.files import read_text

_NAME = re.compile(r"(?s)([A-Za-z0-9.-]+?)(?:\.(.+))?\.([A-Za-z][A-Za-z0-9-]*)")
_HEADER = re.compile(r'\[[ \t]*([A-Za-z0-9.-]+)(?:[ \t]+"((?:[^"\\\n]|\\[^\n])*)")?[ \t]*\]')
_KEY = re.compile(r"[A-Za-z][A-Za-z0-9-]*")
_ESCAPES = {"n": "\n", "t": "\t", "b": "\b", '"': '"', "\\": "\\"}


class Name(NamedTuple):
    """A variable's name: ``remote.origin.url`` is section ``remote``, subsection ``origin``, key ``url``."""

    section: str
    subsection: str | None
    key: str

    @property
    def header(self) -> tuple[str, str | None]:
        """What its section is told by."""
        return self.section, self.subsection

    @property
    def full(self) -> str:
        """As ``git config --list`` writes it."""
        return ".".join(part for part in (self.section or None, self.subsection, self.key) if part is not None)


# The values of each variable, in their order, by its full name.
Listing = dict[str, list[str]]


class Entry(NamedTuple):
    """A line of a file: a section's header (no key) or a variable, and from where to where it reaches."""

    header: tuple[str, str | None]
    key: str | None
    value: str
    start: int
    end: int


class Damaged(ValueError):
    """Git itself could not read the file; ``line`` counts from 1."""

    def __init__(self, text: str, offset: int) -> None:
        self.line = text.count("\n", 0, offset) + 1
        super().__init__(f"line {self.line} is none of git's configuration")


def parse_name(text: str) -> Name | None:
    """The name that a user writes, None for what is none. Section and key are told apart by no case."""
    match = _NAME.fullmatch(text)
    if match is None or "\n" in text or "\0" in text:
        return None
    return Name(match[1].lower(), match[2], match[3].lower())


def parse(text: str) -> list[Entry]:
    """Every header and variable, in order.

    Raises:
        Damaged: it is no configuration of git's.

    """
    entries: list[Entry] = []
    header: tuple[str, str | None] = ("", None)  # git takes variables above the first section
    at = 1 if text.startswith("\N{ZERO WIDTH NO-BREAK SPACE}") else 0
    while at < len(text):
        if text[at].isspace():
            at += 1
        elif text[at] in "#;":
            at = _line_end(text, at)
        elif (match := _HEADER.match(text, at)) is not None:
            name, quoted = match.groups()
            if quoted is not None:
                header = name.lower(), re.sub(r"\\(.)", r"\1", quoted)
            else:  # the old form, in which a subsection is told apart by no case either
                section, _, rest = name.lower().partition(".")
                header = section, rest or None
            entries.append(Entry(header, None, "", at, match.end()))
            at = match.end()
        elif (match := _KEY.match(text, at)) is not None:
            value, end = _value(text, match.end())
            entries.append(Entry(header, match[0].lower(), value, at, end))
            at = end
        else:
            raise Damaged(text, at)
    return entries


def values(text: str, name: Name) -> list[str]:
    """All values of a variable, the last of which counts for most."""
    return [entry.value for entry in parse(text) if (entry.header, entry.key) == (name.header, name.key)]


def included(text: str, base: Path, home: Path) -> Iterator[Path]:
    """Files that it includes, on a condition or not."""
    for entry in parse(text):
        if entry.header[0] in ("include", "includeif") and entry.key == "path":
            yield base / (home / entry.value[2:] if entry.value.startswith("~/") else entry.value)


def listing(text: str) -> Listing:
    """Every variable and its values.

    Raises:
        Damaged: it is no configuration of git's.

    """
    found: Listing = {}
    for entry in parse(text):
        if entry.key is not None:
            section, subsection = entry.header
            found.setdefault(Name(section, subsection, entry.key).full, []).append(entry.value)
    return found


def gits_listing(text: str, git: str, env: Mapping[str, str]) -> Listing:
    """The same as git itself reads it: https://git-scm.com/docs/git-config#_options, ``--list`` and ``--null``.

    Args:
        text: The file's content, handed over by standard input.
        git: The program.
        env: The environment variables.

    Raises:
        ValueError: git cannot read it.
        TaskFailed: git cannot be run.
        NotTrusted: root must not run it.

    """
    variables = {name: value for name, value in env.items() if not name.startswith("GIT_")}
    variables.update(GIT_CONFIG_NOSYSTEM="1", GIT_CONFIG_GLOBAL=os.devnull)
    done = commands.run(
        [git, "config", "--file", "-", "--null", "--list"], env=variables, stdin=text, timeout=60, accept=range(256)
    )
    if done.status != 0:
        raise ValueError(done.errors.strip().removeprefix("fatal: ").replace(" in standard input", ""))
    found: Listing = {}
    for variable in done.output.split("\0")[:-1]:
        name, has_value, value = variable.partition("\n")
        found.setdefault(name, []).append(value if has_value else "true")
    return found


def edited(
    path: Path,
    text: str,
    name: Name,
    spelled: str,
    wanted: Sequence[str],
    read: Callable[[str], Listing] = listing,
) -> str:
    """The text with these values of a variable and no others.

    Args:
        path: The file, for messages.
        text: Its content before.
        name: The variable.
        spelled: Its key in the user's own letters, for lines that are new.
        wanted: The values; none for none.
        read: What judges the result: `listing`, or git itself.

    Raises:
        Damaged: it is no configuration of git's.
        TaskFailed: it cannot be edited with certainty.

    """
    result = _edited(text, name, spelled, wanted)
    if result == text:
        return text
    expected = read(text)
    expected.pop(name.full, None)
    if wanted:
        expected[name.full] = list(wanted)
    return edit_configuration(path, result, read, expected) or ""


def _edited(text: str, name: Name, spelled: str, wanted: Sequence[str]) -> str:
    entries = parse(text)
    there = [entry for entry in entries if (entry.header, entry.key) == (name.header, name.key)]
    if [entry.value for entry in there] == list(wanted):
        return text
    end = "\r\n" if text.count("\r\n") * 2 > text.count("\n") else "\n"
    if len(wanted) > len(there):
        more = "".join(f"\t{spelled} = {_written(value)}{end}" for value in wanted[len(there) :])
        text = _added(text, entries, name, more, end)
    # From the end on, as each change moves what stands behind it.
    for entry in reversed(there[len(wanted) :]):
        start = entry.start - len(re.search(r"[ \t]*$", text[: entry.start])[0])  # type: ignore[index]
        on_header = start > 0 and text[start - 1] != "\n"
        text = text[:start] + (end if on_header else "") + text[entry.end :]
    for entry, value in zip(reversed(there[: len(wanted)]), reversed(wanted[: len(there)]), strict=True):
        if entry.value != value:
            key = _KEY.match(text, entry.start)
            assert key is not None  # noqa: S101 - it was found so
            text = f"{text[: entry.start]}{key[0]} = {_written(value)}{end}{text[entry.end :]}"
    return text if wanted else _without_empty(text, name)


def repository_config(folder: Path) -> Path | None:
    """The configuration file of a repository, of a work tree too; None for what is none."""
    dot = folder / ".git"
    if dot.is_file():
        told = read_text(dot) or ""
        if not told.startswith("gitdir:"):
            return None
        dot = folder / told.removeprefix("gitdir:").strip()
        common = dot / "commondir"
        if common.is_file():
            dot = dot / (read_text(common) or "").strip()
    elif not dot.is_dir():
        dot = folder
    return dot / "config" if (dot / "HEAD").is_file() else None


def user_config(env: Mapping[str, str], home: Path) -> Path:
    """The file that ``git config --global`` writes."""
    if env.get("GIT_CONFIG_GLOBAL"):
        return Path(env["GIT_CONFIG_GLOBAL"])
    own, other = home / ".gitconfig", Path(env.get("XDG_CONFIG_HOME") or home / ".config") / "git/config"
    return other if not own.exists() and other.exists() else own


def _line_end(text: str, at: int) -> int:
    found = text.find("\n", at)
    return len(text) if found < 0 else found + 1


def _value(text: str, at: int) -> tuple[str, int]:
    """The value that begins behind a key, and where its line ends."""
    while at < len(text) and text[at] in " \t":
        at += 1
    if at >= len(text) or text[at] != "=":
        end = _line_end(text, at)
        if text[at:end].strip() and text[at] not in "#;":
            raise Damaged(text, at)
        return "true", end
    at += 1
    found: list[str] = []
    kept, quoted = 0, False  # how much of it stays when blanks at its end go
    while at < len(text):
        letter = text[at]
        if letter == "\n" or text.startswith("\r\n", at):
            if quoted:
                raise Damaged(text, at)
            return "".join(found[:kept]), _line_end(text, at)
        if letter == "\\":
            following = text[at + 1 : at + 2]
            if following in ("\n", "") or text.startswith("\r\n", at + 1):  # to git the file's end ends a line too
                at = _line_end(text, at)
                continue
            if following not in _ESCAPES:
                raise Damaged(text, at)
            found.append(_ESCAPES[following])
            at, kept = at + 2, len(found)
            continue
        at += 1
        if letter == '"':
            quoted, kept = not quoted, len(found)
        elif letter in "#;" and not quoted:
            at = _line_end(text, at)
            return "".join(found[:kept]), at
        elif found or quoted or not letter.isspace():
            found.append(letter)
            kept = len(found) if quoted or not letter.isspace() else kept
    if quoted:
        raise Damaged(text, at)
    return "".join(found[:kept]), at


def _written(value: str) -> str:
    escaped = value.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n").replace("\t", "\\t")
    plain = not re.search(r"[#;\r]", value) and value == value.strip()
    return escaped.replace("\b", "\\b") if plain else f'"{escaped}"'.replace("\b", "\\b")


def _added(text: str, entries: Sequence[Entry], name: Name, lines: str, end: str) -> str:
    """The text with lines at the end of the variable's section, which is made where there is none."""
    own = [entry for entry in entries if entry.header == name.header]
    if not own:
        quoted = "" if name.subsection is None else name.subsection.replace("\\", "\\\\").replace('"', '\\"')
        header = f"[{name.section}]" if name.subsection is None else f'[{name.section} "{quoted}"]'
        before = text + (end if text and not text.endswith("\n") else "")
        return f"{before}{header}{end}{lines}"
    last = own[-1]
    at = last.end if last.key is not None else _line_end(text, last.end)
    if last.key is None and text[last.end : at].strip() and not text[last.end : at].lstrip().startswith(("#", ";")):
        at = last.end  # a variable of its own stands on the header's line
    joint = "" if at == 0 or text[at - 1] == "\n" else end
    return text[:at] + joint + lines + text[at:]


def _without_empty(text: str, name: Name) -> str:
    """The text without headers of the section that nothing stands below, no comment either."""
    entries = parse(text)
    for number in reversed(range(len(entries))):
        entry = entries[number]
        following = entries[number + 1].start if number + 1 < len(entries) else len(text)
        bare = entry.key is None and (number + 1 == len(entries) or entries[number + 1].key is None)
        if bare and entry.header == name.header and not text[entry.end : following].strip():
            text = text[: entry.start] + text[following:]
    return text
