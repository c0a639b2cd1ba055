"""Git's configuration files, read and edited by git itself: https://git-scm.com/docs/git-config."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from nbprovision.files.checked_edit import edit_configuration
from nbprovision.machine.machine import Machine
from nbprovision.model.errors import Position, TaskFailed
from nbprovision.system import commands
from nbprovision.system.files import read_text, temporary_folder, write_atomically
from nbprovision.system.log import withholding
from nbprovision.system.secrets import mask, remember_if_secret

_NAME = re.compile(r"(?s)([A-Za-z0-9.-]+?)(?:\.(.+))?\.([A-Za-z][A-Za-z0-9-]*)")

# The values of each variable in their order, by its full name as `variable_name` returns it.
Variables = dict[str, list[str]]


def variable_name(text: str) -> str | None:
    """A variable's name as ``git config --list`` writes it; None for an invalid name.

    The subsection between section and key is case-sensitive; they are not.
    """
    match = _NAME.fullmatch(text)
    if match is None or "\n" in text or "\0" in text:
        return None
    return ".".join(part for part in (match[1].lower(), match[2], match[3].lower()) if part is not None)


def list_variables(path: Path, text: str, machine: Machine) -> Variables:
    """The values of every variable in a file, without those in included files.

    Args:
        path: The file, for messages.
        text: Its content. git reads the same text once a run.
        machine: The machine.

    Raises:
        TaskFailed: git cannot read it, or git is missing.
        NotTrusted: root must not run this git.

    """
    key = ("git configuration", text)
    if key not in machine.notes:
        with withholding(True):  # any value may be a secret; the secrets are known only afterwards
            done = _git(
                path, ["--file", "-", "--no-includes", "--null", "--list"], machine, stdin=text, accept=range(256)
            )
        if done.status != 0:
            line = re.search(r"line (\d+)", done.errors)
            raise TaskFailed(
                f"{path} cannot be edited",
                cause=f"git cannot read it: {mask(done.errors.strip().removeprefix('fatal: '))}",
                cure="correct the file by hand",
                position=Position(str(path), int(line[1]), 1) if line else None,
            )
        variables: Variables = {}
        for variable in done.output.split("\0")[:-1]:
            name, has_value, value = variable.partition("\n")
            remember_if_secret(name, value)
            variables.setdefault(name, []).append(value if has_value else "true")
        machine.notes[key] = variables
    return dict(machine.notes[key])


def edit(path: Path, text: str, name: str, values: Sequence[str], machine: Machine) -> str:
    """Have git set a variable to exactly these values, and return the new text.

    Args:
        path: The file, for messages; git writes to a copy.
        text: Its current content.
        name: The variable; a new line has its key in this case.
        values: All its values; an empty list removes it.
        machine: The machine.

    Raises:
        TaskFailed: git cannot edit it, or git is missing.
        NotTrusted: root must not run this git.

    """
    expected = list_variables(path, text, machine) if text else {}
    full_name = variable_name(name) or name
    current = expected.pop(full_name, [])
    if current == list(values):
        return text
    added = list(values)
    with temporary_folder(machine.cache / "git-config") as folder:
        copy = folder / "config"
        write_atomically(copy, text, durable=False)
        if current == added[: len(current)]:
            del added[: len(current)]
        elif not added:
            _git(path, ["--file", copy, "--unset-all", "--", name], machine)
        secret_values = {}
        for number, value in enumerate(added):
            argument = value
            if remember_if_secret(name.lower(), value) or mask(value) != value:  # every user can see a command line
                argument = f"nbprovision-{os.urandom(16).hex()}"
                secret_values[argument] = value
            action = "--replace-all" if number == 0 and len(added) == len(values) else "--add"
            _git(path, ["--file", copy, action, "--", name, argument], machine)
        result = copy.read_bytes().decode("utf-8", "surrogateescape")
    for placeholder, value in secret_values.items():
        result = result.replace(placeholder, _quoted(value))
    if values:
        expected[full_name] = list(values)
    return edit_configuration(path, result, lambda new_text: list_variables(path, new_text, machine), expected) or ""


def included_files(path: Path, variables: Variables, user_home: Path) -> Iterator[Path]:
    """The files that a file includes, conditionally or not."""
    for name, values in variables.items():
        if name == "include.path" or (name.startswith("includeif.") and name.endswith(".path")):
            for value in values:
                yield path.parent / (user_home / value[2:] if value.startswith("~/") else value)


def repository_config(folder: Path) -> Path | None:
    """The configuration file of a repository or a linked work tree; None if there is no repository."""
    dot = folder / ".git"
    if dot.is_file():
        pointer = read_text(dot) or ""
        if not pointer.startswith("gitdir:"):
            return None
        dot = folder / pointer.removeprefix("gitdir:").strip()
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


def _git(
    path: Path,
    arguments: Sequence[str | Path],
    machine: Machine,
    *,
    stdin: str | None = None,
    accept: Sequence[int] = (0,),
) -> commands.Completed:
    """Run ``git config`` with English messages and without other configuration files."""
    env = {name: value for name, value in machine.env.items() if not name.startswith("GIT_")}
    env.update(GIT_CONFIG_NOSYSTEM="1", GIT_CONFIG_GLOBAL=os.devnull, LC_ALL="C")
    failure = f"git cannot edit {path}"
    return commands.run(["git", "config", *arguments], env=env, stdin=stdin, timeout=60, accept=accept, failure=failure)


def _quoted(value: str) -> str:
    escaped = value.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n").replace("\t", "\\t")
    return f'"{escaped}"'
