"""The files that a command writes to, by the words of well-known programs."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence

from nbprovision.lint.git_clone import clone_of
from nbprovision.lint.shell import Command

# Commands that write to each operand, or to the last; the number of operands before the files.
_WRITE_ALL = {"mkdir": 0, "touch": 0, "tee": 0, "chmod": 1, "chown": 1, "chgrp": 1, "truncate": 0}
_WRITE_LAST = ("cp", "mv", "install", "ln", "rsync", "mount")
_OUTPUT_OPTIONS = {
    "curl": ("-o", "--output", "--output-dir"),
    "wget": ("-O", "--output-document", "-P", "--directory-prefix"),
    "tar": ("-C", "--directory"),
    "unzip": ("-d",),
}
_EXTRACTS = re.compile(r"-\w*x\w*|--extract|--get")
_TO_STANDARD_OUTPUT = re.compile(r"-\w*O-|--output-document=-|--spider")


def written_paths(command: Command) -> Iterator[str]:
    """Return the absolute paths that a command creates, changes or mounts, without those of its redirections.

    A path that only a run knows is empty.
    """
    operands, values = command.operands, command.values
    if command.program in _WRITE_ALL:
        rest = operands[0 if command.has("--reference") else _WRITE_ALL[command.program] :]
        yield from map(command.place, rest)
    elif command.program in _WRITE_LAST and len(operands) > 1:
        yield command.place(operands[-1])
    elif command.program == "sed" and any(re.match(r"-\w*i|--in-place", value) for value in values):
        yield from map(command.place, operands[1:])
    elif (clone := clone_of(command)) is not None:
        yield clone.path
    elif command.program in _OUTPUT_OPTIONS:
        yield from _outputs(command)


def _outputs(command: Command) -> Iterator[str]:
    """The file or folder that a download or an archive goes to."""
    values = command.values
    if command.program == "tar" and not any(
        _EXTRACTS.fullmatch(value) or (number == 0 and re.fullmatch(r"\w*x\w*", value))
        for number, value in enumerate(values)
    ):
        return
    targets = [value for name, value in options(values, *_OUTPUT_OPTIONS[command.program]) if value != "-"]
    yield from map(command.place, targets)
    saves = command.program != "curl" or command.has("-O", "--remote-name")
    if not targets and saves and not any(map(_TO_STANDARD_OUTPUT.fullmatch, values)):
        yield command.folder


def options(values: Sequence[str], *names: str) -> Iterator[tuple[str, str]]:
    """Return the values of options, each with its option: ``-o X``, ``-fsSo X``, ``-oX``, ``--output X`` and ``=X``."""
    for before, value in zip(["", *values], values, strict=False):
        for name in names:
            long = name.startswith("--")
            if before == name or (not long and re.fullmatch(rf"-[A-Za-z]*{name[1]}", before)):
                yield name, value
            elif long and value.startswith(f"{name}="):
                yield name, value.removeprefix(f"{name}=")
            elif not long and value.startswith(name) and value != name:
                yield name, value.removeprefix(name)
