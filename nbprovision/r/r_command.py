"""Runs R: asks repositories, fetches, builds and loads packages; its errors with reason and fix.

R runs without the files of the user and of the site that would change what it does (``--vanilla``), and so do the
processes that it starts for a build. All values reach it as arguments or on standard input, never as code.
"""

from __future__ import annotations

import hashlib
import os
import re
import tarfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Literal

from nbprovision.machine import environments, network
from nbprovision.machine.machine import Machine
from nbprovision.model.errors import TaskFailed
from nbprovision.r.description import Description, descriptions
from nbprovision.r.installation import Installation, search_path
from nbprovision.system import commands, disk_space, trust
from nbprovision.system.files import own_temporary_files, read_text, remove
from nbprovision.system.reading import read_bytes
from nbprovision.system.secrets import mask

Script = Literal["query", "download", "install", "load"]

_UNREADABLE = 3  # the status of our scripts if something cannot be fetched
_QUICK = 600.0  # seconds for what neither builds nor needs a network
_LONGEST_BUILD = 4 * 3600.0  # seconds for all packages of a task
_SILENT_TIMES = 4  # a server may be silent for longer than it takes to answer
_LINES = 25  # of the output of a failed build
_LARGEST = 1 << 20  # bytes of a DESCRIPTION
_NOWHERE = "/dev/null"  # R leaves out a library that is not a folder; an empty variable would mean the default
# R reads these files whatever its options are, if a build starts it again.
_NO_FILES = dict.fromkeys(("R_PROFILE", "R_PROFILE_USER", "R_ENVIRON", "R_ENVIRON_USER", "R_MAKEVARS_USER"), os.devnull)
# The words of R and libcurl for each kind of failure of the network; the first match counts.
_RECOGNISED: tuple[tuple[str, network.Kind], ...] = (
    (r"status was '407|response 407|407 from proxy", "proxy"),
    (r"status was '401", "credentials"),
    (r"status was '403", "forbidden"),
    (r"status was '4(?:04|10)", "missing"),
    (r"status was '(?:429|503)", "busy"),
    (r"status was '5\d\d", "server"),
    (r"resolve (?:host|proxy)|name resolution", "dns"),
    (r"timed out|timeout", "silent"),
    (r"certificate|SSL", "certificate"),
    (r"refused|Couldn't connect|Failed to connect|Could not connect", "refused"),
    (r"No route|unreachable", "route"),
    (r"Transferred a partial|downloaded length|reset|Empty reply|Recv failure", "cut"),
    (r"[Ll]ine starting|malformed|Invalid DCF", "portal"),
)
# What a build says of a missing program, header or library of the system, and how to name it.
_MISSING: tuple[tuple[str, str], ...] = (
    (r"(?m)^.*fatal error: (\S+): No such file or directory", "the header {0} is missing"),
    (r"(?m)cannot find -l(\S+?):? ", "the library lib{0} is missing"),
    (r"(?m)cannot find -l(\S+)$", "the library lib{0} is missing"),
    (r"(\S+\.so[.\d]*): cannot open shared object file", "the library {0} is missing"),
    (
        r"(?m)(?:sh|make|bash|/bin/sh)(?:: line)?(?:: \d+)*: (\S+?):? (?:command )?not found",
        "the program {0} is missing",
    ),
    (r"make: (\S+): No such file or directory", "the program {0} is missing"),
)
_TRY = re.compile(r"(?m)^.*(?:Try installing|\* (?:deb|rpm|apk)):.*$")


class RCommand:
    """One R at work.

    Args:
        machine: The machine.
        installation: The R.

    """

    def __init__(self, machine: Machine, installation: Installation) -> None:
        self._machine, self._installation = machine, installation

    def available(self, names: Sequence[str], repositories: Sequence[str]) -> list[Description]:
        """The packages of these names in the repositories, and all that they may need, in every version.

        Raises:
            NetworkFailed: a repository cannot be reached.
            TaskFailed: it is not a repository.

        """
        failure = "cannot read the package repository"
        stdin = "".join(f"{url}\n" for url in repositories)
        output = network.retry(
            self._machine,
            lambda _offline: self._fetching("query", names, stdin, repositories, failure),
            cached=False,
        )
        return list(descriptions(output))

    def download(self, packages: Sequence[Description], folder: Path, repositories: Sequence[str]) -> None:
        """Fetch the files of packages into a folder, and compare each with the repository's MD5, if it has one.

        Raises:
            NetworkFailed: a file could not be fetched, or is another one.

        """
        files = {package: folder / f"{package.name}_{package.version}.tar.gz" for package in packages}
        failure = "cannot fetch the packages"

        def fetch(_offline: bool) -> None:
            lines = [f"{_address(package)}\t{path}\n" for package, path in files.items() if not path.exists()]
            self._fetching("download", (), "".join(lines), repositories, failure)
            for package, path in files.items():
                if package.md5 and hashlib.md5(read_bytes(path), usedforsecurity=False).hexdigest() != package.md5:
                    remove(path)
                    raise network.NetworkFailed(
                        failure,
                        "garbled",
                        _server(_address(package)),
                        url=_address(package),
                        said="its MD5 is not the one that the repository names",
                    )

        network.retry(self._machine, fetch, cached=False)

    def install(self, packages: Sequence[Description], library: Path, folder: Path) -> None:
        """Build packages from the files in ``folder`` into the empty folder ``library``, and load each one.

        Raises:
            TaskFailed: one of them cannot be built or loaded, with the end of the output of R.

        """
        names = [package.name for package in packages]
        count = str(min(len(names), len(os.sched_getaffinity(0))))
        with own_temporary_files(self._machine.env) as temporary:
            done = self._run("install", (library, folder, count, *names), before=library, temporary=temporary,
                             timeout=_LONGEST_BUILD)  # fmt: skip
        failed = [name for name in names if not (library / name / "Meta/package.rds").is_file()]
        if failed:
            raise self._unbuilt(packages, failed, folder, f"{done.output}\n{done.errors}")
        for name, reason in self.unloadable(names, before=library).items():
            raise TaskFailed(
                f"the package {name} was built, but cannot be loaded",
                cause=reason,
                cure=_cure(name, self._installation),
            )

    def unloadable(self, names: Sequence[str], *, before: Path | None = None) -> dict[str, str]:
        """The packages that R cannot load, each with R's reason.

        Args:
            names: The packages.
            before: A library that is searched first.

        """
        done = self._run("load", names, before=before, timeout=_QUICK)
        lines = (line.partition("\t") for line in done.output.splitlines())
        reasons = {name: mask(reason)[:2000] for name, _, reason in lines if name in names}
        if done.status != 0:  # a library of the package has ended the process
            reasons.setdefault(names[0], mask(done.errors.strip() or f"R ended with {done.status}")[-2000:])
        return reasons

    # ------------------------------------------------------------------------------------------------- the process

    def _fetching(
        self,
        script: Script,
        arguments: Sequence[str],
        stdin: str,
        urls: Sequence[str],
        failure: str,
    ) -> str:
        """The output of a script that fetches something."""
        for url in urls:
            if url.startswith("file:"):
                trust.tree(url.removeprefix("file://"), "install packages from")
        silence = network.timeout(self._machine.env) * _SILENT_TIMES
        try:
            done = self._run(script, arguments, stdin=stdin, silence=silence)
        except commands.Silent as error:
            raise network.NetworkFailed(
                failure, "silent", _server(urls[0]), url=urls[0], said=error.cause.partition(":")[0]
            ) from None
        if done.status == 0:
            return done.output
        said = mask(done.errors.strip())[-2000:]
        full = disk_space.explain_output(said, self._installation.library)
        if full is not None:
            raise TaskFailed(failure, cause=full[0], cure=full[1])
        url = next((url for url in urls if url in done.errors), urls[0])
        kind = next(_kinds(said), None)
        if url.startswith("file:"):
            raise TaskFailed(
                failure,
                cause=f"{mask(url)} has no src/contrib/PACKAGES, or a file that it names is missing\n{said}",
                cure="correct `repos`; in R, tools::write_PACKAGES writes that file for a folder of packages",
            )
        if done.status == _UNREADABLE:
            raise network.NetworkFailed(failure, kind or "unclear", _server(url), url=url, said=said)
        raise TaskFailed(failure, cause=said, cure=f"check this R: {self._installation.program} --version")

    def _run(
        self,
        script: Script,
        arguments: Sequence[str | Path],
        *,
        stdin: str = "",
        before: Path | None = None,
        temporary: dict[str, str] | None = None,
        timeout: float | None = None,
        silence: float | None = None,
    ) -> commands.Completed:
        """Run one of our scripts in R, in its environment as after activation."""
        path = Path(__file__).with_name(f"{script}.R")
        words = [self._installation.program, "--vanilla", "-s", "-f", path, "--args", *arguments]
        variables = self._variables(before) | (temporary or {})
        with own_temporary_files(self._machine.env) as own:
            variables = own | variables
            return commands.run(
                self._activated(list(map(str, words)), variables),
                env={**self._inherited(), **variables},
                stdin=stdin,
                timeout=timeout,
                silence=silence,
                accept=range(256),
                failure=f"R did not finish ({script})",
                foreign=True,  # a build starts make, compilers and R again
            )

    def _inherited(self) -> dict[str, str]:
        """The variables of R's process, without those that would make it another R than the playbook's."""
        given = self._machine.environment
        return {
            name: value
            for name, value in self._machine.env.items()
            if not (name.startswith("R_") or name in ("RHOME", "LANGUAGE", "MAKEFLAGS")) or name in given
        }

    def _variables(self, before: Path | None) -> dict[str, str]:
        first = [] if before is None else [before]
        return {
            **_NO_FILES,
            **{name: self._machine.environment[name] for name in _NO_FILES if name in self._machine.environment},
            "R_LIBS": search_path([*first, *self._installation.libraries]),
            "R_LIBS_USER": _NOWHERE,
            "R_LIBS_SITE": _NOWHERE,
            "LC_ALL": "C.UTF-8",
        }

    def _activated(self, words: list[str], variables: dict[str, str]) -> list[str]:
        prefix = self._installation.prefix
        self._judge()
        if prefix is None:
            return words
        kept = " ".join(name for name in variables if name != "PATH")
        conda = str(self._machine.conda.executable or "-")
        return [*environments.launcher_shell(), str(environments.LAUNCHER_SOURCE), str(prefix), conda, kept, *words]

    def _judge(self) -> None:
        """Judge what R runs and loads, if this process is root's."""
        if not trust.applies():
            return
        installation = self._installation
        trust.program(installation.program, env=self._machine.env)
        trust.tree(installation.home, "run the R in")
        for library in installation.libraries:
            if os.path.lexists(library):
                trust.tree(library, "load packages from")
        if installation.prefix is not None:
            trust.environment(installation.prefix, "run a command in")
            if self._machine.conda.executable is not None:
                trust.program(self._machine.conda.executable, env=self._machine.env)

    def _unbuilt(self, packages: Sequence[Description], failed: list[str], folder: Path, output: str) -> TaskFailed:
        """The error of a build: of the first package whose own build failed, with what the system lacks."""
        outputs = {name: read_text(folder / f"{name}.out") or "" for name in failed}
        name = next((name for name in failed if "ERROR: " in outputs[name]), failed[0])
        text = outputs[name] or output
        message = f"the package {name} could not be built"
        full = disk_space.explain_output(text, self._installation.library)
        if full is not None:
            return TaskFailed(message, cause=full[0][-2000:], cure=full[1])
        lacks = [words.format(*match) for pattern, words in _MISSING if (match := _groups(pattern, text))]
        lacks += [line.strip(" *") for line in _TRY.findall(text)]
        needs = _system_requirements(folder / f"{name}_{_version(packages, name)}.tar.gz", name)
        if needs:
            lacks.append(f"the package needs of the system: {needs}")
        lines = [line for line in text.splitlines() if line.strip() and not line.startswith("* removing")]
        cause = "\n".join(dict.fromkeys([*lacks, *lines[-_LINES:]]))
        return TaskFailed(message, cause=mask(cause)[-6000:], cure=_cure(name, self._installation))


def _kinds(said: str) -> Iterator[network.Kind]:
    """The kinds of failure that the output names, the last one first: R tries several forms of an index."""
    for line in reversed(said.splitlines()):
        yield from (kind for words, kind in _RECOGNISED if re.search(words, line))


def _groups(pattern: str, text: str) -> tuple[str, ...]:
    match = re.search(pattern, text)
    return match.groups() if match is not None else ()


def _version(packages: Sequence[Description], name: str) -> str:
    return next(package.version for package in packages if package.name == name)


def _cure(name: str, installation: Installation) -> str:
    conda = f"take the compiled package of conda-forge: ensure_conda_pkg with packages: [r-{name.lower()}]"
    if installation.prefix is not None:
        return f"{conda}; or add what is missing to the environment (compilers: the package `compilers`)"
    return "install what is missing by the system's packages, or use an environment with r-base by `env`"


def _system_requirements(archive: Path, name: str) -> str:
    """The field SystemRequirements of a package's file; empty without one."""
    try:
        with tarfile.open(archive) as files:
            member = files.extractfile(f"{name}/DESCRIPTION")
            text = member.read(_LARGEST).decode("utf-8", "replace") if member is not None else ""
    except (OSError, KeyError, tarfile.TarError):
        return ""
    match = re.search(r"(?m)^SystemRequirements:\s*((?:.*\n?)(?:[ \t].*\n?)*)", text)
    return " ".join(match[1].split())[:500] if match is not None else ""


def _address(package: Description) -> str:
    return f"{package.repository}/{package.file or f'{package.name}_{package.version}.tar.gz'}"


def _server(url: str) -> network.Server:
    return network.Server("CRAN repository", url)
