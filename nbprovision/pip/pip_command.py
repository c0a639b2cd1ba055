"""The other engine for Python packages: pip (https://pip.pypa.io/en/stable/cli/pip_install/)."""

from __future__ import annotations

import contextlib
import errno
import importlib.util
import os
import sys
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from nbprovision.indexes import index_settings as indexes
from nbprovision.machine import distributions, network, protection
from nbprovision.machine.distributions import normalized
from nbprovision.machine.network import pip_log, pip_log_output
from nbprovision.model.errors import TaskFailed
from nbprovision.pip import editable_clone, engine_options, requirements, target_folder
from nbprovision.pip.request import Move, Request, child_environment, failure, index_settings, interpreter
from nbprovision.system import commands, disk_space
from nbprovision.system.files import make_folder, own_temporary_files, remove, temporary_folder

if TYPE_CHECKING:
    from nbprovision.machine.machine import Machine


class _Metadata(msgspec.Struct):
    name: str
    version: str


class _Item(msgspec.Struct):
    metadata: _Metadata


class _Report(msgspec.Struct):
    """https://pip.pypa.io/en/stable/reference/installation-report/, as far as it is needed."""

    install: list[_Item]


def perform(machine: Machine, request: Request) -> None:
    """Carry a request out. What is to be put in place anew has to be taken out before: pip would let it be.

    Raises:
        TaskFailed: with pip's own words and what to do.
    """
    if request.location is not None:
        target_folder.perform(machine, request, request.location, _install)
    else:
        protection.refuse_links(request.prefix, ("bin", "lib"))
        with _taken_back(request):
            _install(machine, request, ["--src", str(request.prefix / "src")])
        _mark_clones(request)


@contextlib.contextmanager
def _taken_back(request: Request) -> Iterator[None]:
    """Where the disk gets full, take back what pip wrote of a package that is new: it leaves that, and the disk full.

    What it was to replace pip itself has put back by then. Not after other failures: what is new might be of somebody
    who installs at the same time.
    """
    folder = distributions.site_packages(request.prefix)
    before = set(os.listdir(folder)) if folder is not None else set()
    try:
        yield
    except TaskFailed as error:
        if folder is not None and disk_space.write_error(error.cause) in (errno.ENOSPC, errno.EDQUOT):
            whole = [one for several in distributions.in_folder(folder).values() for one in several if not one.broken]
            named = {name.partition("/")[0] for one in whole for name in distributions.recorded(one.path)}
            for entry in set(os.listdir(folder)) - before - named:
                remove(folder / entry)
            left = disk_space.explain_output(error.cause.partition("\n")[2], folder)
            error.cause = left[0] if left is not None else error.cause
        raise


def resolve(machine: Machine, request: Request) -> list[Move] | None:
    """What carrying a request out would change; None where this pip is too old to tell (before 22.2).

    Raises:
        TaskFailed: it cannot be carried out.
    """
    if _version(request.prefix) < (22, 2):
        return None
    with temporary_folder(machine.cache / "pip-src") as clones:  # pip clones for a look too
        return _resolve(machine, request, ["--dry-run", "--quiet", "--report", "-", "--src", str(clones)])


def _resolve(machine: Machine, request: Request, report: list[str]) -> list[Move]:
    if request.location is not None:
        return target_folder.moves(machine, request, request.location, _coming, _install, report)
    there = request.found()
    return [
        Move(name, there[name][0].version if name in there else None, version)
        for name, version in sorted(_coming(_install(machine, request, report)).items())
    ]


def _mark_clones(request: Request) -> None:
    """Say in each clone of a repository where it came from, so that the next run knows it again."""
    editable = [wanted for wanted in map(requirements.parse, request.lines) if wanted.editable]
    found = request.found() if editable else {}
    for wanted in editable:
        for one in found.get(wanted.name or "", ()):
            if one.direct_url is not None and not (wanted.url or "").startswith("file:"):
                editable_clone.mark(one.direct_url.url, wanted.url or "")


def uninstall(
    machine: Machine, prefix: Path, names: Iterable[str], *, python: Path | None = None, managed: bool = False
) -> None:
    """Uninstall distributions.

    Raises:
        TaskFailed: with pip's own words.
    """
    folder = distributions.site_packages(prefix)
    done = _pip(machine, prefix, python or interpreter(prefix), ["uninstall", "--yes", *names], _managed(managed))
    if folder is not None:  # with the last distribution pip takes the folder too, and what is empty above it
        make_folder(folder)
    if done.status != 0:
        raise failure(f"cannot uninstall from {prefix}", done)


def _coming(report: str) -> dict[str, str]:
    """Names and versions of what an install would bring."""
    install = msgspec.json.decode(report, type=_Report).install
    return {normalized(item.metadata.name): item.metadata.version for item in install}


def _install(machine: Machine, request: Request, more: Sequence[str]) -> str:
    # pip has no way to do with what it has cached.
    return network.retry(machine, lambda _: _attempt(machine, request, more), cached=False)


def _attempt(machine: Machine, request: Request, more: Sequence[str]) -> str:
    settings = index_settings(machine, request)
    # Not by argument: lines may hold passwords.
    words: list[str | Path] = ["install", "--requirement", "/dev/stdin", "--no-warn-script-location"]
    words += [word for path in request.constraints for word in ("--constraint", path)]
    words += engine_options.for_pip(request.options)
    words += ["--upgrade", "--upgrade-strategy", "only-if-needed"] if request.upgrade else []
    words += more
    variables = {
        **limits(machine),
        **engine_options.pip_variables(request.options),
        **indexes.pip_environment(settings),
        **_managed(request.managed),
    }
    done = _pip(machine, request.prefix, request.python, words, variables, stdin=request.text)
    if done.status != 0:
        what = f"cannot install what is asked for into {request.prefix}"
        raise failure(what, done, settings, request=request, machine=machine)
    return done.output


def limits(machine: Machine) -> dict[str, str]:
    """How long pip waits for an answer, and how often it asks again."""
    limits = {"PIP_DEFAULT_TIMEOUT": f"{network.timeout(machine.env):.0f}"}
    if not machine.env.get("PIP_RETRIES"):
        limits["PIP_RETRIES"] = str(network.quick_retries(machine))
    return limits


def _pip(
    machine: Machine,
    prefix: Path,
    python: Path,
    words: Sequence[str | Path],
    variables: dict[str, str],
    *,
    stdin: str = "",
) -> commands.Completed:
    # Its configuration is in ``variables``, but for what the task decides (`install_options`).
    fixed = {"PIP_CONFIG_FILE": os.devnull, "PIP_USER": "0", "PIP_NO_INPUT": "1", "PIP_PROGRESS_BAR": "off"}
    fixed["PIP_EXISTS_ACTION"] = "b"  # a clone of another repository is moved aside, never deleted
    fixed |= {"PIP_DISABLE_PIP_VERSION_CHECK": "1", "PYTHONDONTWRITEBYTECODE": "1"}
    kept = {name: value for name, value in child_environment(machine.env).items() if not name.startswith("PIP_")}
    env = {**kept, **fixed, **variables}
    with own_temporary_files(env) as temporary:
        log = pip_log(temporary)
        done = commands.run(
            [*_command(prefix, python), *words],
            env={**env, **temporary, **log},
            stdin=stdin,
            timeout=machine.timeout,
            accept=range(256),
        )
        return done if done.status == 0 else done._replace(errors=f"{done.errors}\n{pip_log_output(log)}")


def _command(prefix: Path, python: Path) -> list[str | Path]:
    """The environment's own pip, else that of this interpreter, which installs for another since 22.3.

    Neither leaves compiled files of its own behind (``-B``, and a variable for the Python that ``--python`` starts): a
    look at what would come changes nothing.
    """
    if "pip" in distributions.installed(prefix):
        return [python, "-I", "-B", "-m", "pip"]
    if importlib.util.find_spec("pip") is not None:
        return [sys.executable, "-I", "-B", "-m", "pip", "--python", python]
    raise TaskFailed(
        f"there is no pip for {prefix}",
        cause="neither the environment nor this tool has one",
        cure="add pip to the environment's packages, or leave `engine` to `auto`",
    )


def _version(prefix: Path) -> tuple[int, int]:
    found = distributions.installed(prefix).get("pip")
    if not found:
        return (99, 0)  # our own
    major, minor, *_ = (*found[0].version.split("."), "0")
    return (int(major), int(minor)) if major.isdigit() and minor.isdigit() else (99, 0)


def _managed(managed: bool) -> dict[str, str]:
    return {"PIP_BREAK_SYSTEM_PACKAGES": "1"} if managed else {}
