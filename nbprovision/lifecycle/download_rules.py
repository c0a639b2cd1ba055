"""Rules about downloads of lifecycle scripts that nothing checks."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator

from nbprovision.lint.finding import Problem, script_rule
from nbprovision.lint.git_clone import clone_of
from nbprovision.lint.shell import Command
from nbprovision.lint.subject import Script

_FETCHERS = ("curl", "wget")
_RUNNERS = re.compile(r"(?:ba|da|z|k)?sh|python[\d.]*|perl|ruby|node|source|\.|eval|Rscript")
_BRANCH = r"(?:refs/heads/[^/]+|master|main|develop|dev|HEAD|latest)"
_FROM_BRANCH = re.compile(
    rf"https?://(?:raw\.githubusercontent\.com/[^/]+/[^/]+/(?:blob/)?{_BRANCH}/"
    rf"|github\.com/[^/]+/[^/]+/(?:raw|blob|archive|tarball|zipball)/{_BRANCH}(?:/|\.zip|\.tar\.gz|$)"
    rf"|gitlab\.com/\S+/-/(?:raw|archive)/{_BRANCH}/)"
)
# Addresses of the machine itself, and those on which AWS gives metadata and credentials.
_LOCAL = re.compile(r"http://(?:localhost|127\.|\[::1\]|0\.0\.0\.0|169\.254\.)")
_CHECKS = re.compile(r"(?:sha(?:1|224|256|384|512)?|md5|b2)sum|shasum|gpgv?|cosign|minisign|rpm")
_VERSION = re.compile(r"v?\d+(?:\.\d+)+\S*|[0-9a-f]{7,40}")
_PIN = "fetch one version, and compare its sha256 before it is used: echo 'SHA256  FILE' | sha256sum -c -"


@script_rule(
    "warning", "whoever can change the source, or answers in its place, runs commands on each of these notebooks"
)
def unchecked_download(script: Script) -> Iterable[Problem]:
    """A download from a branch, by http, or directly into a shell, without a checksum.

    A branch is `master`, `main` or another that moves. An address of the machine itself or of its metadata may be
    http. A script that calls `sha256sum`, `gpg` or the like is taken to check its downloads; only a download into a
    shell cannot be checked. Repair: a release or commit and its sha256, or a copy in the team's own S3 bucket.
    """
    checks = any(_CHECKS.fullmatch(command.program) for command in script.commands)
    for command in script.commands:
        position = script.at_offset(command.at)
        if command.program in _FETCHERS and _is_run(command, script):
            yield Problem(position, "a shell runs the download as it comes", _PIN)
        elif command.program in _FETCHERS and not checks and _is_kept(command, script):
            for url in command.values:
                if _FROM_BRANCH.match(url):
                    yield Problem(position, "the download comes from a branch, which changes", _PIN)
                    break
                if url.startswith("http://") and not _LOCAL.match(url):
                    yield Problem(position, "the download comes by http, which anybody on the way can change", _PIN)
                    break
    yield from _cloned(script)


def _is_run(command: Command, script: Script) -> bool:
    """Whether an interpreter gets the output: ``curl | sh``, ``bash <(curl)``, ``bash -c "$(curl)"``."""
    if command.after in ("|", "|&"):
        for other in script.shell.beside(command):
            values = other.values
            reads = not values or all(value.startswith("-") for value in values) or "-s" in values
            runs = _RUNNERS.fullmatch(other.program) and reads and not other.has("-c")
            if runs and other.start > command.start and other.before in ("|", "|&"):
                return True
    outer = script.shell.outer.get(command.within) if command.substituted else None
    return (
        outer is not None
        and _RUNNERS.fullmatch(outer.program) is not None
        and any(
            argument.start <= command.start < argument.start + len(argument.text)
            and (argument.text.startswith("<(") or outer.has("-c") or outer.program == "eval")
            for argument in outer.arguments
        )
    )


def _is_kept(command: Command, script: Script) -> bool:
    """Whether the download becomes a file, rather than an answer that the script reads."""
    if command.has("--spider", "--head", "-I") or command.substituted:
        return False
    if command.program == "wget":
        return not any(re.fullmatch(r"-\w*O-|--output-document=-", value) for value in command.values) or bool(
            [output for output in command.outputs if output.path != "/dev/null"]
        )
    saved = command.has("-O", "--remote-name", "-J") or any(
        (value == "--output" or re.fullmatch(r"-[a-zA-Z]*o", value)) and after not in ("/dev/null", "-")
        for value, after in zip(command.values, [*command.values[1:], ""], strict=False)
    )
    unpacked = command.after == "|" and any(
        other.before == "|" and other.program in ("tar", "unzip", "gunzip") for other in script.shell.beside(command)
    )
    return saved or unpacked or any(output.path != "/dev/null" for output in command.outputs)


def _cloned(script: Script) -> Iterator[Problem]:
    """A repository whose newest commit is cloned and then run."""
    for command in script.commands:
        clone = clone_of(command)
        if clone is None or not clone.name or "$" in clone.name or _VERSION.fullmatch(clone.branch):
            continue
        later = [other for other in script.commands if other.start > command.start]
        pinned = any(
            other.program == "git" and {"checkout", "reset", "switch"} & set(other.operands) for other in later
        )
        if not pinned and any(_runs_from(other, clone.name) for other in later):
            cure = "check out a commit: git -C FOLDER checkout COMMIT, or clone a tag by --branch TAG"
            yield Problem(
                script.at_offset(command.at), f"the newest commit of {clone.name} is run, whatever it is", cure
            )


def _runs_from(command: Command, name: str) -> bool:
    """Whether a command runs a file of the cloned folder, or installs from it."""
    inside = f"/{name}/" in f"{command.folder}/"

    def is_file(value: str) -> bool:
        return f"/{name}/" in f"/{value}" or (inside and value.startswith("./"))

    if is_file(command.path):
        return True
    values = command.values
    if _RUNNERS.fullmatch(command.program):
        first = next((value for value in values if not value.startswith("-")), "")
        return is_file(first) or (inside and bool(first) and not first.startswith(("/", "$")))
    if "install" in values and re.fullmatch(r"pip[\d.]*|uv|make|npm", command.program):
        return inside or any(f"/{name}/" in f"/{value}/" for value in values)
    return False
