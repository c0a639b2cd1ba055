"""What root judges before it starts a process: it starts nothing that somebody else can change, see `system.trust`."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from nbprovision.system import trust

DEVNULL = subprocess.DEVNULL
# Variables that lead to places, which the working folder is the beginning of: an empty or relative entry starts there.
# ld.so(8) takes spaces and semicolons in some of them as well.
_LISTS = {
    "PATH": ":",
    "LD_LIBRARY_PATH": ":;",
    "LD_PRELOAD": ": ",
    "LD_AUDIT": ":",
    "PYTHONPATH": ":",
    "PYTHONHOME": ":",
    "PYTHONPYCACHEPREFIX": "",
    "PYTHONUSERBASE": "",
    "PYTHONSTARTUP": "",
    "ENV": "",
}
# How the names of variables start by which programs find code, configuration, caches and certificates.
_NAMING = (
    "AWS_", "BASH_ENV", "CONDA", "CURL_CA", "GCONV_", "GIT_", "IPYTHON", "JUPYTER_", "LD_", "LOCPATH", "MAMBA", "NETRC",
    "NODE_", "OPENSSL_", "PERL", "PIP_", "PYTHON", "REQUESTS_CA", "R_", "SSL_CERT", "UV_", "XDG_C",
)  # fmt: skip
_OF_PYTHON = ("PYTHON", "LD_", "GCONV_", "LOCPATH", "OPENSSL_")  # those that reach this very process
_MOST_SCRIPTS = 5  # one the interpreter of the other: execve(2)
_LONGEST_FIRST_LINE = 4096  # bytes; the kernel reads 255 of them


def start(
    words: Sequence[str | Path],
    *,
    env: Mapping[str, str],
    cwd: str | Path | None = "/",
    foreign: bool = False,
    **options: Any,
) -> subprocess.Popen[bytes]:
    """Start a process, without a shell.

    Args:
        words: Program and arguments.
        env: The whole environment.
        cwd: The working folder; None for the caller's own, which is not judged: the program must not look there.
        foreign: A command of the playbook's author, who answers for its arguments. Those of our own commands are
            environments, files and folders that the program runs, reads or fills.
        options: Others of `subprocess.Popen`.

    Raises:
        NotTrusted: this is root's, and somebody else can change what it would run, obey or write to.
        OSError: the program is missing or cannot be run.

    """
    argv = [os.fspath(word) for word in words]
    judge(argv, env=env, cwd=cwd, foreign=foreign)
    return subprocess.Popen(argv, env=dict(env), cwd=cwd, **options)  # noqa: S603 - no shell sees it


def program(name: str | Path, *, env: Mapping[str, str], cwd: str = "/", depth: int = 0) -> None:
    """Judge a program before it runs, by its path or as found on the PATH; a missing one cannot run.

    The environment that it is part of is judged as well, and for a script its interpreter.

    Raises:
        NotTrusted: somebody other than root can change one of them.

    """
    if not trust.applies():
        return
    name = os.fspath(name)
    place = find(name, env, cwd)
    if place is None:
        return
    trust.obey(place, "run")
    packages = True
    for file in dict.fromkeys([place, os.path.realpath(place)]):
        prefix = os.path.dirname(os.path.dirname(file))
        if os.path.basename(file).startswith("python") or _is_environment(prefix):
            trust.environment(prefix, "run the programs in", packages=packages)
        packages = not trust.has_own_packages_only(prefix)  # of the Python that a virtual environment's link leads to
    interpreter = _interpreter(place)
    if interpreter and depth < _MOST_SCRIPTS:
        program(interpreter, env=env, cwd=cwd, depth=depth + 1)


def find(name: str, env: Mapping[str, str], cwd: str) -> str | None:
    """The path of a program: as given if it has a slash, else of the first executable one on the PATH of ``env``."""
    if "/" in name:
        return os.path.join(cwd, name)
    places = (os.path.join(cwd, folder, name) for folder in os.get_exec_path(env))
    return next((place for place in places if os.path.isfile(place) and os.access(place, os.X_OK)), None)


def variables(env: Mapping[str, str], cwd: str, *, of_this_process: bool = False) -> None:
    """Judge the places that environment variables have a program look for code, configuration and caches in.

    Args:
        env: The variables.
        cwd: The working folder.
        of_this_process: Only those by which this process has found its own code.

    Raises:
        NotTrusted: this is root's, and somebody else can change one of them.

    """
    for variable, value in env.items() if trust.applies() else ():
        if of_this_process and not variable.startswith(_OF_PYTHON):
            continue
        for path in _paths(variable, value, cwd):
            trust.obey(path, f"obey {variable}, which leads to")


def judge(words: Sequence[str], *, env: Mapping[str, str], cwd: str | Path | None, foreign: bool = False) -> None:
    """Judge a command before it is started; for the arguments and errors see `start`."""
    if not trust.applies():
        return
    if cwd is not None:
        trust.place(cwd, "work in")
    cwd = os.getcwd() if cwd is None else os.fspath(cwd)
    variables(env, cwd)
    if os.path.isabs(env.get("TMPDIR", "")):
        trust.place(env["TMPDIR"], "make temporary files in")
    program(words[0], env=env, cwd=cwd)
    for word in [] if foreign else words[1:]:
        path = word.partition("=")[2] if word.startswith("--") else word
        if not os.path.isabs(path) or path == "/dev/stdin":
            continue
        if os.path.isfile(path) and os.access(path, os.X_OK):
            program(path, env=env, cwd=cwd)
        else:
            trust.environment(path)


def _paths(variable: str, value: str, cwd: str) -> Iterator[str]:
    if variable == "PYTHONPLATLIBDIR" and "/" in value:  # a name, below whatever prefix the interpreter has
        yield from (f"{prefix}/{value}" for prefix in {cwd, sys.prefix, sys.base_prefix})
    elif variable in _LISTS and value:
        separators = _LISTS[variable]
        parts = re.split(f"[{separators}]", value) if separators else [value]
        yield from (os.path.join(cwd, part) for part in parts)
    elif variable.startswith(_NAMING):
        yield from filter(os.path.isabs, re.split(r"[\s,:;]+", value))


def _is_environment(prefix: str) -> bool:
    return os.path.exists(f"{prefix}/pyvenv.cfg") or os.path.isdir(f"{prefix}/conda-meta")


def _interpreter(script: str) -> str:
    """The program that a script's first line names, or has ``env`` look for; empty if the file is not a script."""
    try:
        with open(script, "rb") as stream:
            first = stream.readline(_LONGEST_FIRST_LINE)
    except OSError:
        return ""
    words = os.fsdecode(first[2:]).split() if first.startswith(b"#!") else []
    if words and os.path.basename(words[0]) == "env":
        words = [word for word in words[1:] if not word.startswith("-") and "=" not in word]
    return words[0] if words else ""
