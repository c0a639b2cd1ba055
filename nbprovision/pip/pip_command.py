"""The other engine for Python packages: pip (https://pip.pypa.io/en/stable/cli/pip_install/).

A ``--target`` folder is kept up to date here, as pip itself does not do that. pip installs into it as if it were empty:
it downloads everything again, leaves the files of old distributions, and replaces whole folders, so that one half of a
namespace package is lost (https://pip.pypa.io/en/stable/cli/pip_install/#cmdoption-t). So pip installs into a fresh
folder, from which the new distributions are moved, one by one.
"""

from __future__ import annotations

import contextlib
import csv
import errno
import importlib.util
import io
import os
import shutil
import sys
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from nbprovision.indexes import index_settings
from nbprovision.machine import distributions, network, protection
from nbprovision.machine.distributions import Distribution, normalized
from nbprovision.machine.network import pip_log, pip_log_output
from nbprovision.machine.package_files import remove_distribution
from nbprovision.model.errors import TaskFailed
from nbprovision.pip import locked_install, requirements, satisfied
from nbprovision.pip.install_settings import ALL, Options
from nbprovision.pip.request import (
    Move,
    Request,
    child_environment,
    constraints_file,
    failure,
    interpreter,
    settings_of,
    with_flag,
)
from nbprovision.system import commands, disk_space
from nbprovision.system.files import (
    make_folder,
    own_temporary_files,
    read_text,
    remove,
    temporary_folder,
    write_atomically,
)

if TYPE_CHECKING:
    from nbprovision.machine.machine import Machine


class _Metadata(msgspec.Struct):
    name: str
    version: str


class _Item(msgspec.Struct):
    metadata: _Metadata


class _Report(msgspec.Struct):
    """The part of https://pip.pypa.io/en/stable/reference/installation-report/ that is needed."""

    install: list[_Item]


def perform(machine: Machine, request: Request) -> None:
    """Carry out a request. The caller removes distributions to reinstall, as pip would leave them alone.

    Raises:
        TaskFailed: with pip's message and advice.
    """
    if request.locked:
        with locked_install.pip_requests(machine, request, settings_of(machine, request)) as parts:
            for part in parts:
                perform(machine, part)
        return
    if request.location is not None:
        _update_target(machine, request, request.location)
        return
    protection.refuse_links(request.prefix, ("bin", "lib"))
    with _remains_removed(request):
        _install(machine, request, ["--src", str(request.prefix / "src")])
    _mark_clones(request)


@contextlib.contextmanager
def _remains_removed(request: Request) -> Iterator[None]:
    """On a full disk, remove the parts of new packages, which pip leaves there. It has put back the old ones itself.

    After other failures nothing is removed: a new package may be of somebody who installs at the same time.
    """
    folder = distributions.site_packages(request.prefix)
    before = set(os.listdir(folder)) if folder is not None else set()
    try:
        yield
    except TaskFailed as error:
        if folder is not None and disk_space.write_error(error.cause) in (errno.ENOSPC, errno.EDQUOT):
            installed = [entry for same_name in distributions.in_folder(folder).values() for entry in same_name]
            whole = {
                name.partition("/")[0]
                for distribution in installed
                if not distribution.broken
                for name in distributions.recorded(distribution.path)
            }
            for entry in set(os.listdir(folder)) - before - whole:
                remove(folder / entry)
            explanation = disk_space.explain_output(error.cause.partition("\n")[2], folder)
            error.cause = explanation[0] if explanation is not None else error.cause
        raise


def _mark_clones(request: Request) -> None:
    """Write into each clone of a repository where it came from, so that the next run recognises it."""
    editable = [wanted for wanted in map(requirements.parse, request.lines) if wanted.editable]
    installed = request.found() if editable else {}
    for wanted in editable:
        for distribution in installed.get(wanted.name or "", ()):
            if distribution.direct_url is not None and not (wanted.url or "").startswith("file:"):
                mark = satisfied.clone_mark(distribution.direct_url.url)
                if mark is not None:
                    text = f"{requirements.without_credentials(wanted.url or '')}\n"
                    write_atomically(mark, text, mode=0o644, durable=False)


def resolve(machine: Machine, request: Request) -> list[Move] | None:
    """The changes that carrying out a request would make; None if this pip is too old to report them (before 22.2).

    Raises:
        TaskFailed: the request cannot be carried out.
    """
    if _version(request.prefix) < (22, 2):
        return None
    with temporary_folder(machine.cache / "pip-src") as clones:  # pip clones for a dry run too
        words = ["--dry-run", "--quiet", "--report", "-", "--src", str(clones)]
        if request.location is None:
            report = _install(machine, request, words)
        else:
            words = ["--target", str(request.location), *words]
            report = _install_conservatively(machine, request, request.location, words)
    installed = {name: same_name[0].version for name, same_name in request.found().items()}
    metadata = [item.metadata for item in msgspec.json.decode(report, type=_Report).install]
    incoming = {normalized(item.name): item.version for item in metadata}
    return [
        Move(name, installed.get(name), version)
        for name, version in sorted(incoming.items())
        # For a target, pip reports everything, installed or not.
        if request.location is None or installed.get(name) != version or name in request.reinstall
    ]


def _update_target(machine: Machine, request: Request, location: Path) -> None:
    """Install into a temporary folder, then move the distributions that ``location`` does not have."""
    with temporary_folder(machine.cache / "pip-target") as stage:
        _install_conservatively(machine, request, location, ["--target", str(stage), "--no-compile"])
        installed = distributions.in_folder(location)
        for name, (new, *_) in distributions.in_folder(stage).items():
            old = installed.get(name, [])
            if [distribution.version for distribution in old] == [new.version] and name not in request.reinstall:
                continue
            for distribution in old:
                remove_distribution(location, distribution.path)
            _move(new, stage, location)


def _install_conservatively(machine: Machine, request: Request, location: Path, words: Sequence[str]) -> str:
    """Run pip with the installed versions as constraints, as it would otherwise upgrade everything; else without."""
    pins = list(_pins(request, location))
    if pins:
        bound = (*request.constraints, constraints_file(machine, pins))
        with contextlib.suppress(TaskFailed):
            return _install(machine, msgspec.structs.replace(request, constraints=bound), words)
    return _install(machine, request, words)


def _pins(request: Request, location: Path) -> Iterator[str]:
    """Pins of the installed distributions that the request allows."""
    requested = [requirements.parse(line) for line in request.lines]
    for name, (first, *others) in distributions.in_folder(location).items():
        mine = [wanted for wanted in requested if wanted.name == name]
        fits = all(wanted.url is None and satisfied.allowed(wanted.specifier, first.version) for wanted in mine)
        if fits and name not in request.upgrade and not others:
            yield f"{name}=={first.version}"


def _move(distribution: Distribution, stage: Path, location: Path) -> None:
    """Move a distribution's files, its RECORD last: without it the distribution counts as broken."""
    record = distribution.path / "RECORD"
    rows = [row for row in csv.reader((read_text(record) or "").splitlines()) if row]
    # pip wrote it for lib/python, from where it moved everything up.
    rows = [[row[0].removeprefix("../../"), *row[1:]] for row in rows]
    stage_prefix = os.path.realpath(stage) + os.sep
    for name, *_ in rows:
        source = stage / name
        if not os.path.realpath(source).startswith(stage_prefix) or not os.path.lexists(source):
            continue
        if source != record:
            make_folder((location / name).parent)
            shutil.move(source, location / name)
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows(rows)
    write_atomically(location / distribution.path.name / "RECORD", text.getvalue())


def uninstall(
    machine: Machine, prefix: Path, names: Iterable[str], *, python: Path | None = None, managed: bool = False
) -> None:
    """Uninstall distributions.

    Raises:
        TaskFailed: with pip's message.
    """
    folder = distributions.site_packages(prefix)
    completed = _pip(machine, prefix, python or interpreter(prefix), ["uninstall", "--yes", *names], _managed(managed))
    if folder is not None:  # with the last distribution pip removes the folder too, and empty folders above it
        make_folder(folder)
    if completed.status != 0:
        raise failure(f"cannot uninstall from {prefix}", completed)


def _install(machine: Machine, request: Request, more: Sequence[str]) -> str:
    # pip cannot be limited to its cache.
    return network.retry(machine, lambda _: _attempt(machine, request, more), cached=False)


def _attempt(machine: Machine, request: Request, more: Sequence[str]) -> str:
    settings = settings_of(machine, request)
    # Requirements are not passed as arguments, as they may contain passwords.
    words: list[str | Path] = ["install", "--requirement", "/dev/stdin", "--no-warn-script-location"]
    words += [*with_flag("--constraint", request.constraints), *_arguments(request.options)]
    words += [] if request.dependencies else ["--no-deps"]
    words += ["--upgrade", "--upgrade-strategy", "only-if-needed"] if request.upgrade else []
    words += more
    variables = {
        **limits(machine),
        **_variables(request.options),
        **index_settings.pip_environment(settings),
        **_managed(request.managed),
    }
    completed = _pip(machine, request.prefix, request.python, words, variables, stdin=request.text)
    if completed.status != 0:
        message = f"cannot install the requested packages into {request.prefix}"
        raise failure(message, completed, settings, request=request, machine=machine)
    return completed.output


def _arguments(options: Options) -> list[str | Path]:
    """The arguments of ``pip install`` for ``options``, as far as old versions of pip know them."""
    words = [*options.format_arguments, *with_flag("--constraint", options.remote_constraints)]
    words += ["--pre"] if ALL in options.all_releases else []
    words += ["--prefer-binary"] if options.prefer_binary else []
    words += ["--require-hashes"] if options.require_hashes else []
    words += [] if options.build_isolation else ["--no-build-isolation"]
    return [*words, *with_flag("--config-settings", options.config_settings)]


def _variables(options: Options) -> dict[str, str]:
    """The other options as variables, which old versions of pip ignore if they do not know them."""
    variables = {
        "PIP_BUILD_CONSTRAINT": " ".join(options.build_constraints),
        "PIP_ALL_RELEASES": "" if ALL in options.all_releases else ",".join(options.all_releases),
        "PIP_ONLY_FINAL": ",".join(options.only_final),
        "PIP_NO_REQUIRE_HASHES": "1" if options.no_require_hashes and not options.require_hashes else "",
        "PIP_UPLOADED_PRIOR_TO": options.uploaded_prior_to or "",
        "PIP_REFRESH_PACKAGE": ",".join(options.refresh),
        "PIP_KEYRING_PROVIDER": options.keyring or "",
    }
    return {**options.for_pip, **{name: value for name, value in variables.items() if value}}


def all_variables(options: Options) -> dict[str, str]:
    """All options as variables, for a pip that installs wheels only."""
    variables = {
        **_variables(options),
        "PIP_CONSTRAINT": " ".join(options.constraints),
        "PIP_PRE": "1" if ALL in options.all_releases else "",
        "PIP_REQUIRE_HASHES": "1" if options.require_hashes else "",
    }
    return {name: value for name, value in variables.items() if value}


def limits(machine: Machine) -> dict[str, str]:
    """The seconds that pip waits for an answer, and its number of retries."""
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
    fixed = {
        "PIP_CONFIG_FILE": os.devnull,  # the options of pip's files are among the variables (`install_options`)
        "PIP_USER": "0",
        "PIP_NO_INPUT": "1",
        "PIP_PROGRESS_BAR": "off",
        "PIP_EXISTS_ACTION": "b",  # a clone of another repository is moved aside, never deleted
        "PIP_DISABLE_PIP_VERSION_CHECK": "1",
        "PYTHONDONTWRITEBYTECODE": "1",
    }
    inherited = {name: value for name, value in child_environment(machine.env).items() if not name.startswith("PIP_")}
    env = {**inherited, **fixed, **variables}
    with own_temporary_files(env) as temporary:
        log = pip_log(temporary)
        completed = commands.run(
            [*_command(prefix, python), *words],
            env={**env, **temporary, **log},
            stdin=stdin,
            timeout=machine.timeout,
            accept=range(256),
        )
        return (
            completed
            if completed.status == 0
            else completed._replace(errors=f"{completed.errors}\n{pip_log_output(log)}")
        )


def _command(prefix: Path, python: Path) -> list[str | Path]:
    """The environment's own pip, else that of this interpreter, which can install for another one since 22.3.

    ``-B``, and a variable for the Python that ``--python`` starts, keep pip from writing compiled files: a dry run
    changes nothing.
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
    installed = distributions.installed(prefix).get("pip")
    if not installed:
        return (99, 0)  # this tool's own
    major, minor, *_ = (*installed[0].version.split("."), "0")
    return (int(major), int(minor)) if major.isdigit() and minor.isdigit() else (99, 0)


def _managed(managed: bool) -> dict[str, str]:
    return {"PIP_BREAK_SYSTEM_PACKAGES": "1"} if managed else {}
