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
from nbprovision.conda.requested import CondaAsked, PipAsked, Since
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
    parser.add_argument("--pinned", action="store_true", help="in the versions that are installed")
    parser.add_argument("--home", type=Path, metavar="DIR", help="folder of state, lock, log and caches")


def execute(options: argparse.Namespace) -> int:
    """Print the playbook.

    Returns:
        0; an environment that is not there raises `UnknownEnvironment` (4).

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
        f"{'In the versions that were installed' if pinned else 'What was asked for'} in {called} on {when},",
        f"written by nbprovision {__version__} (export) on this machine: {machine.platform.kind}.",
        *hidden.told,
    ]
    return playbook(_untemplated(f"As exported from {called}"), tasks, header)


def _prefix_of(machine: Machine, name: str) -> Path:
    prefix = machine.prefix_of(name)
    if not is_environment(prefix) and not (prefix / "pyvenv.cfg").is_file():
        raise UnknownEnvironment(
            f"there is no environment at {prefix}", cause="it is neither conda's nor a virtual one", cure="correct it"
        )
    return prefix


class _Secrets:
    """Takes secrets out of texts, and tells by which variables they have to be given instead."""

    def __init__(self) -> None:
        self._variables: dict[str, str] = {}
        self.told: list[str] = []

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
        """The value of a kernel's variable: what the name or a URL in it tells to be secret is not written."""
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
        if line not in self.told:
            self.told.append(line)


def _secret_spans(text: str) -> Iterator[tuple[int, int]]:
    """Where in a text the password (or the token in the user's place) of a URL stands, and the token of a channel."""
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
            (one for one in machine.conda.environments() if os.path.realpath(one.prefix) == real),
            Environment(prefix.name, prefix),
        )
        self._name = prefix.name if self._environment.name == "base" else self._environment.name

    @property
    def _reference(self) -> str:
        """What tasks call it: its name, where that leads here again when it is gone or another image is there."""
        conda = self._machine.conda
        known = conda.prefix_of(self._environment.name) == self._prefix
        if self._environment.provided and known:
            return self._environment.name
        return self._name if known and conda.new_prefix(self._name) == self._prefix else str(self._prefix)

    def tasks(self, kernels: list[inventory.FoundKernel]) -> Iterator[Written]:
        """What makes the environment, what pip put into it, its kernels."""
        if self._environment.provided:
            yield from self._added()
        else:
            if is_environment(self._prefix):
                yield self._made()
            found, left_over = requested.by_pip(self._prefix, pinned=self._pinned)
            comments = _left_over(left_over)
            if not is_environment(self._prefix):
                yield self._made_virtual()
            yield from self._by_pip(found, comments)
        yield from self._kernels(kernels)

    def _made(self) -> Written:
        """The task that makes a conda environment."""
        found = requested.by_conda(
            self._prefix, self._machine.conda.condarc, self._machine.conda.channels(), pinned=self._pinned
        )
        reference = self._reference
        parameters: dict[str, Any] = {"prefix" if "/" in reference else "name": _untemplated(reference)}
        comments = ["It was not finished when it was looked at."] * self._environment.unfinished
        comments += _guessed(found)
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
            parameters={**parameters, **self._conda_parameters(found)},
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

    def _conda_parameters(self, found: CondaAsked) -> dict[str, Any]:
        parameters: dict[str, Any] = {}
        if found.channels:
            parameters["channels"] = [self._hidden.without(channel) for channel in found.channels]
        if found.specs:
            parameters["packages"] = [self._hidden.without(spec) for spec in found.specs.values()]
        return parameters

    def _by_pip(self, found: list[PipAsked], comments: tuple[str, ...], **more: Any) -> Iterator[Written]:
        if not found:
            return
        gone = tuple(
            f"{one.name} was installed from {one.gone}, which is not there any more" for one in found if one.gone
        )
        yield Written(
            name=_untemplated(f"What pip and uv were asked for in {self._name}"),
            kind="ensure_pip_pkg",
            parameters={
                "env": _untemplated(self._reference),
                "packages": [self._hidden.without(one.requirement) for one in found],
                **more,
            },
            comments=comments + gone,
        )

    def _kernels(self, kernels: list[inventory.FoundKernel]) -> Iterator[Written]:
        for one in kernels:
            if one.prefix != str(self._prefix) or one.hidden_by is not None or self._was_brought(one):
                continue
            found = kernel_parameters.parameters(one, self._prefix, self._reference)
            if found is None:
                continue
            variables = found.pop("environment", {})
            parameters = _all_untemplated(found)
            if variables:
                parameters["environment"] = {name: self._hidden.value(name, text) for name, text in variables.items()}
            yield Written(name=_untemplated(f"The kernel {one.name}"), kind="ensure_kernel", parameters=parameters)

    def _was_brought(self, kernel: inventory.FoundKernel) -> bool:
        """Whether ipykernel brings the kernel with itself, or the platform's image does."""
        if kernel.scope == "env" and kernel.name == "python3":
            return True
        image = self._environment.provided and kernel.scope != "user"
        return image and not requested.is_newer_than_start(Path(kernel.folder) / SPEC)

    # ------------------------------------------------------------------------------- what the platform's image brought

    def _added(self) -> Iterator[Written]:
        """What has come to an environment of the platform's beside what its image brought."""
        since, comments = self._since()
        more: dict[str, Any] = {"jupyter_server": True} if self._environment.jupyter_server else {}
        allowed = {**more, "allow_platform_changes": True}
        conda = self._machine.conda
        for names, extra in ((since.packages - since.moved, more), (since.packages & since.moved, allowed)):
            found = requested.by_conda(self._prefix, conda.condarc, conda.channels(), pinned=self._pinned, only=names)
            if found.specs:
                yield Written(
                    name=_untemplated(f"{'Moved' if extra is allowed else 'Added'} by conda in {self._name}"),
                    kind="ensure_conda_pkg",
                    parameters={"env": _untemplated(self._reference), **self._conda_parameters(found), **extra},
                    comments=(*comments, *_guessed(found)),
                )
                comments = ()
        came = since.distributions - since.moved
        found_by_pip, left_over = requested.by_pip(self._prefix, pinned=self._pinned, only=came)
        yield from self._by_pip(found_by_pip, comments + _left_over(left_over), **more)
        moved, _ = requested.by_pip(self._prefix, pinned=True, only=since.distributions & since.moved)
        yield from self._by_pip(moved, (), **allowed)

    def _since(self) -> tuple[Since, tuple[str, ...]]:
        known = image.known_baseline(self._machine, self._prefix)
        if known is None:
            told = (
                f"No run had written down what the image brought to {self._name}: this is what is newer than the start"
            )
            return requested.since_start(self._prefix), (told,)
        changes = image.differences(known.content, image.content(self._prefix))
        gone = [one.name for one in changes if one.after is None]
        there = [one for one in changes if one.after is not None]
        moved = {one.name for one in there if one.before is not None}
        packages = {one.name for one in there if one.kind == "conda"}
        # What conda moved is told once; where pip put something in its place the folders tell.
        python = {one.name for one in there if one.kind == "pip"} | {distributions.normalized(one) for one in packages}
        return (
            Since(frozenset(packages), frozenset(python), frozenset(moved)),
            (f"The image brought these, which are gone: {', '.join(gone)}",) if gone else (),
        )


def _guessed(found: CondaAsked) -> list[str]:
    return (
        ["Nobody wrote down what was asked for: these are the packages that no other needs."] if found.guessed else []
    )


def _left_over(names: list[str]) -> tuple[str, ...]:
    return (f"Left out, since nobody asked for them and nothing needs them: {', '.join(names)}",) if names else ()


def _untemplated(text: str) -> str:
    """A text that a playbook takes as it stands, whatever braces are in it."""
    return _TEMPLATE_MARKS.sub(lambda match: f"{{{{ '{match[0]}' }}}}", text)


def _all_untemplated(value: Any) -> Any:
    if isinstance(value, str):
        return _untemplated(value)
    if isinstance(value, dict):
        return {key: _all_untemplated(one) for key, one in value.items()}
    return [_all_untemplated(one) for one in value] if isinstance(value, list) else value
