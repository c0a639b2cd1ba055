"""``nbprovision export``: what a user installed by hand, as a playbook that makes the same again."""

from __future__ import annotations

import argparse
import os
import re
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from nbprovision import __version__
from nbprovision.cli import inventory, kernel_parameters
from nbprovision.conda import health, requested
from nbprovision.conda.requested import CondaRequests, PipRequest, Since
from nbprovision.indexes import index_url
from nbprovision.machine import distributions, image, virtual_environments
from nbprovision.machine.environments import Environment, is_environment
from nbprovision.machine.kernels import SPEC
from nbprovision.machine.machine import Machine
from nbprovision.model.errors import ProvisionError, UnknownEnvironment
from nbprovision.report.playbook_text import Written, playbook
from nbprovision.system import secrets

_FROM_ENVIRONMENT = "{{{{ lookup('env', '{}') }}}}"
_TEMPLATE_MARKS = re.compile(r"\{\{|\{%|\{#")


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the options of ``export``."""
    parser.add_argument("envs", metavar="ENV", nargs="+", help="an environment, by name or path")
    parser.add_argument("--pinned", action="store_true", help="with the installed versions")
    parser.add_argument("--home", type=Path, metavar="DIR", help="folder of state, lock, log and caches")


def execute(options: argparse.Namespace) -> int:
    """Print the playbook.

    Returns:
        0; a missing environment raises `UnknownEnvironment` (4).

    """
    machine = Machine(home=options.home.absolute() if options.home else None)
    sys.stdout.write(exported(machine, options.envs, pinned=options.pinned))
    return 0


def exported(machine: Machine, names: list[str], *, pinned: bool) -> str:
    """The playbook that makes what is in these environments again.

    Args:
        machine: The machine.
        names: Environments by name or path.
        pinned: In the versions that are installed.

    Raises:
        UnknownEnvironment: one of them is not there.

    """
    prefixes = {_prefix_of(machine, name): name for name in names}
    kernels = inventory.found_kernels(machine)
    hidden = _Secrets()
    tasks: list[Written] = []
    for prefix in prefixes:
        tasks += _Export(machine, prefix, hidden, pinned=pinned).tasks(kernels)
    called = ", ".join(prefix.name for prefix in prefixes)
    when = time.strftime("%Y-%m-%d")
    header = [
        f"{'The installed versions' if pinned else 'The requested packages'} in {called} on {when},",
        f"written by nbprovision {__version__} (export) on this machine: {machine.platform.kind}.",
        *hidden.comments,
    ]
    return playbook(_untemplated(f"As exported from {called}"), tasks, header)


def _prefix_of(machine: Machine, name: str) -> Path:
    prefix = machine.prefix_of(name)
    if not is_environment(prefix) and not (prefix / "pyvenv.cfg").is_file():
        raise UnknownEnvironment(
            f"{prefix} is not an environment", cause="it has neither conda-meta nor pyvenv.cfg", cure="correct it"
        )
    return prefix


class _Secrets:
    """Takes secrets out of texts, and lists the variables by which they must be given instead."""

    def __init__(self) -> None:
        self._variables: dict[str, str] = {}
        self.comments: list[str] = []

    def without(self, text: str) -> str:
        """A requirement or channel, the password and token in it replaced by what reads them from the environment."""
        spans = list(_secret_spans(text))
        shown = text
        for start, end in reversed(spans):
            shown = shown[:start] + secrets.MASK + shown[end:]
        result, done = "", 0
        for start, end in spans:
            result += _untemplated(text[done:start]) + _FROM_ENVIRONMENT.format(self._variable(text[start:end], shown))
            done = end
        return result + _untemplated(text[done:])

    def value(self, name: str, value: str) -> str:
        """The value of a kernel's variable; it is hidden if its name, or a URL in it, shows that it is a secret."""
        if not secrets.is_secret(name, value):
            return self.without(value)
        self._tell(name, f"the kernel's variable {name}")
        return _FROM_ENVIRONMENT.format(name)

    def _variable(self, secret: str, shown: str) -> str:
        named = re.fullmatch(r"\$\{(\w+)\}", secret)  # how pip keeps what a requirements file takes from a variable
        if secret not in self._variables:
            self._variables[secret] = named[1] if named else f"EXPORTED_SECRET_{len(self._variables) + 1}"
            self._tell(self._variables[secret], shown)
        return self._variables[secret]

    def _tell(self, variable: str, what: str) -> None:
        line = f"Not written down: a secret. Set the variable {variable} before a run, for {what}"
        if line not in self.comments:
            self.comments.append(line)


def _secret_spans(text: str) -> Iterator[tuple[int, int]]:
    """Find the passwords of URLs (or the tokens in place of users) and the tokens of channels in a text."""
    user_info = re.search(r"://([^/\s]*)@", text)
    if user_info is not None and index_url.secret_of(text):
        yield user_info.start(1) + user_info[1].find(":") + 1, user_info.end(1)
    token = re.search(r"/t/([^/\s]+)/", text)
    if token is not None:
        yield token.span(1)


class _Export:
    """The tasks of one environment."""

    def __init__(self, machine: Machine, prefix: Path, hidden: _Secrets, *, pinned: bool) -> None:
        self._machine = machine
        self._prefix = prefix
        self._hidden = hidden
        self._pinned = pinned
        real = os.path.realpath(prefix)
        self._environment = next(
            (
                environment
                for environment in machine.conda.environments()
                if os.path.realpath(environment.prefix) == real
            ),
            Environment(prefix.name, prefix),
        )
        self._name = prefix.name if self._environment.name == "base" else self._environment.name

    @property
    def _reference(self) -> str:
        """The environment's reference in tasks: its name, if that leads here after a restart or on another image."""
        conda = self._machine.conda
        is_known = conda.prefix_of(self._environment.name) == self._prefix
        if self._environment.provided and is_known:
            return self._environment.name
        return self._name if is_known and conda.new_prefix(self._name) == self._prefix else str(self._prefix)

    def tasks(self, kernels: list[inventory.FoundKernel]) -> Iterator[Written]:
        """What makes the environment, what pip put into it, its kernels."""
        if self._environment.provided:
            yield from self._added()
        else:
            if is_environment(self._prefix):
                yield self._made()
            requests, left_over = requested.by_pip(self._prefix, pinned=self._pinned)
            comments = _left_over(left_over)
            if not is_environment(self._prefix):
                yield self._made_virtual()
            yield from self._by_pip(requests, comments)
        yield from self._kernels(kernels)

    def _made(self) -> Written:
        """The task that makes a conda environment."""
        request = requested.by_conda(
            self._prefix, self._machine.conda.condarc, self._machine.conda.channels(), pinned=self._pinned
        )
        reference = self._reference
        parameters: dict[str, Any] = {"prefix" if "/" in reference else "name": _untemplated(reference)}
        comments = ["It was unfinished at the time of the export."] * self._environment.unfinished
        comments += _guessed(request)
        pins = health.pins(self._prefix)
        if pins:
            comments.append(f"conda-meta/pinned, which no parameter writes, holds it to: {', '.join(pins)}")
        try:
            variables = health.variables(self._prefix)
        except ProvisionError:
            variables = {}
        if variables:
            comments.append(f"Activation sets variables, which no parameter does: {', '.join(variables)}")
        return Written(
            name=_untemplated(f"The environment {self._name}"),
            kind="ensure_conda_env",
            parameters={**parameters, **self._conda_parameters(request)},
            comments=tuple(comments),
        )

    def _made_virtual(self) -> Written:
        """The task that makes a virtual environment."""
        named = virtual_environments.named(self._machine.conda).get(self._prefix.name) == self._prefix
        where = {"name": self._prefix.name} if named else {"path": _untemplated(str(self._prefix))}
        python = distributions.python_version(self._prefix)
        return Written(
            name=_untemplated(f"The environment {self._name}"),
            kind="ensure_venv",
            parameters=where if python is None else {**where, "python": virtual_environments.minor(python)},
        )

    def _conda_parameters(self, request: CondaRequests) -> dict[str, Any]:
        parameters: dict[str, Any] = {}
        if request.channels:
            parameters["channels"] = [self._hidden.without(channel) for channel in request.channels]
        if request.specs:
            parameters["packages"] = [self._hidden.without(spec) for spec in request.specs.values()]
        return parameters

    def _by_pip(self, requests: list[PipRequest], comments: tuple[str, ...], **more: Any) -> Iterator[Written]:
        if not requests:
            return
        gone = tuple(
            f"{request.name} was installed from {request.gone}, which no longer exists"
            for request in requests
            if request.gone
        )
        yield Written(
            name=_untemplated(f"Packages requested from pip and uv in {self._name}"),
            kind="ensure_pip_pkg",
            parameters={
                "env": _untemplated(self._reference),
                "packages": [self._hidden.without(request.requirement) for request in requests],
                **more,
            },
            comments=comments + gone,
        )

    def _kernels(self, kernels: list[inventory.FoundKernel]) -> Iterator[Written]:
        for kernel in kernels:
            if kernel.prefix != str(self._prefix) or kernel.hidden_by is not None or self._was_brought(kernel):
                continue
            kernel_task = kernel_parameters.parameters(kernel, self._prefix, self._reference)
            if kernel_task is None:
                continue
            variables = kernel_task.pop("environment", {})
            parameters = _all_untemplated(kernel_task)
            if variables:
                parameters["environment"] = {name: self._hidden.value(name, text) for name, text in variables.items()}
            yield Written(name=_untemplated(f"The kernel {kernel.name}"), kind="ensure_kernel", parameters=parameters)

    def _was_brought(self, kernel: inventory.FoundKernel) -> bool:
        """Whether ipykernel brings the kernel with itself, or the platform's image does."""
        if kernel.scope == "env" and kernel.name == "python3":
            return True
        image = self._environment.provided and kernel.scope != "user"
        return image and not requested.is_newer_than_start(Path(kernel.folder) / SPEC)

    # ------------------------------------------------------------------------------- the platform's image

    def _added(self) -> Iterator[Written]:
        """The packages that were added to an environment of the platform's image."""
        since, comments = self._since()
        more: dict[str, Any] = {"jupyter_server": True} if self._environment.jupyter_server else {}
        allowed = {**more, "allow_platform_changes": True}
        conda = self._machine.conda
        for names, extra in ((since.packages - since.moved, more), (since.packages & since.moved, allowed)):
            request = requested.by_conda(self._prefix, conda.condarc, conda.channels(), pinned=self._pinned, only=names)
            if request.specs:
                yield Written(
                    name=_untemplated(f"{'Moved' if extra is allowed else 'Added'} by conda in {self._name}"),
                    kind="ensure_conda_pkg",
                    parameters={"env": _untemplated(self._reference), **self._conda_parameters(request), **extra},
                    comments=(*comments, *_guessed(request)),
                )
                comments = ()
        came = since.distributions - since.moved
        found_by_pip, left_over = requested.by_pip(self._prefix, pinned=self._pinned, only=came)
        yield from self._by_pip(found_by_pip, comments + _left_over(left_over), **more)
        moved, _ = requested.by_pip(self._prefix, pinned=True, only=since.distributions & since.moved)
        yield from self._by_pip(moved, (), **allowed)

    def _since(self) -> tuple[Since, tuple[str, ...]]:
        recorded = image.known_baseline(self._machine, self._prefix)
        if recorded is None:
            comment = (
                f"No run has recorded the image's packages in {self._name}: these packages are newer than the start"
            )
            return requested.since_start(self._prefix), (comment,)
        changes = image.differences(recorded.content, image.content(self._prefix))
        gone = [change.name for change in changes if change.after is None]
        kept = [change for change in changes if change.after is not None]
        moved = {change.name for change in kept if change.before is not None}
        packages = {change.name for change in kept if change.kind == "conda"}
        # A package that conda moved is listed once; the folders show which one pip replaced.
        python = {entry.name for entry in kept if entry.kind == "pip"} | {
            distributions.normalized(entry) for entry in packages
        }
        return (
            Since(frozenset(packages), frozenset(python), frozenset(moved)),
            (f"These packages of the image are missing: {', '.join(gone)}",) if gone else (),
        )


def _guessed(request: CondaRequests) -> list[str]:
    return (
        ["The requested packages are not recorded: these are the packages that no other needs."]
        if request.guessed
        else []
    )


def _left_over(names: list[str]) -> tuple[str, ...]:
    return (f"Left out, since nobody asked for them and nothing needs them: {', '.join(names)}",) if names else ()


def _untemplated(text: str) -> str:
    """A text that a playbook takes as written, whatever braces are in it."""
    return _TEMPLATE_MARKS.sub(lambda match: f"{{{{ '{match[0]}' }}}}", text)


def _all_untemplated(value: Any) -> Any:
    if isinstance(value, str):
        return _untemplated(value)
    if isinstance(value, dict):
        return {key: _all_untemplated(entry) for key, entry in value.items()}
    return [_all_untemplated(entry) for entry in value] if isinstance(value, list) else value
