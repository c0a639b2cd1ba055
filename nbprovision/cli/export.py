"""``nbprovision export``: prints a playbook that installs the packages of environments again."""

from __future__ import annotations

import argparse
import os
import re
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import yaml

from nbprovision import __version__
from nbprovision.cli import inventory
from nbprovision.conda import health, requested
from nbprovision.conda.requested import CondaRequests, PipRequest, Since
from nbprovision.indexes import index_url
from nbprovision.jupyter import kernelspec
from nbprovision.machine import distributions, image, interpreters
from nbprovision.machine import kernels as machine_kernels
from nbprovision.machine.environments import LAUNCHER, Environment, is_environment
from nbprovision.machine.kernels import SPEC
from nbprovision.machine.machine import Machine
from nbprovision.model.errors import ProvisionError, UnknownEnvironment
from nbprovision.system import secrets

_FROM_ENVIRONMENT = "{{{{ lookup('env', '{}') }}}}"
_TEMPLATE_MARKS = re.compile(r"\{\{|\{%|\{#")
_KERNEL_MARK = "nbprovision"  # key of ensure_kernel in a kernelspec's metadata
_NO_USER_SITE = "PYTHONNOUSERSITE"
_WIDTH = 4096  # nothing is folded: a long requirement stays on one line
_INDENT = "    "


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the options of ``export``."""
    parser.add_argument("envs", metavar="ENV", nargs="+", help="an environment, by name or path")
    parser.add_argument("--pinned", action="store_true", help="with the installed versions")
    parser.add_argument("--home", type=Path, metavar="DIR", help="folder of state, lock, log and caches")


def execute(options: argparse.Namespace) -> int:
    """Print the playbook.

    Returns:
        0.

    Raises:
        UnknownEnvironment: an environment is missing.

    """
    machine = Machine(home=options.home.absolute() if options.home else None)
    sys.stdout.write(exported(machine, options.envs, pinned=options.pinned))
    return 0


def exported(machine: Machine, names: list[str], *, pinned: bool) -> str:
    """Return a playbook that installs the packages of these environments again.

    Args:
        machine: The machine.
        names: Environments by name or path.
        pinned: Name the installed versions.

    Raises:
        UnknownEnvironment: an environment is missing.

    """
    prefixes = {_prefix_of(machine, name): name for name in names}
    kernels = inventory.all_kernels(machine)
    hidden = _Secrets()
    tasks: list[ExportedTask] = []
    for prefix in prefixes:
        tasks += _Export(machine, prefix, hidden, pinned=pinned).tasks(kernels)
    environments = ", ".join(prefix.name for prefix in prefixes)
    when = time.strftime("%Y-%m-%d")
    header = [
        f"{'The installed versions' if pinned else 'The requested packages'} in {environments} on {when},",
        f"written by nbprovision {__version__} (export) on this machine: {machine.platform.kind}.",
        *hidden.comments,
    ]
    return playbook_text(_untemplated(f"As exported from {environments}"), tasks, header)


def _prefix_of(machine: Machine, name: str) -> Path:
    prefix = machine.prefix_of(name)
    if not is_environment(prefix) and not (prefix / "pyvenv.cfg").is_file():
        raise UnknownEnvironment(
            f"{prefix} is not an environment", cause="it has neither conda-meta nor pyvenv.cfg", cure="correct it"
        )
    return prefix


class _Secrets:
    """Removes secrets from texts, and lists the variables that must provide them."""

    def __init__(self) -> None:
        self._variables: dict[str, str] = {}
        self.comments: list[str] = []

    def without(self, text: str) -> str:
        """Replace the password and token in a requirement or channel by lookups of environment variables."""
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
        """Return the value of a kernel's variable; a secret, by its name or a URL in it, is replaced by a lookup."""
        if not secrets.is_secret(name, value):
            return self.without(value)
        self._note(name, f"the kernel's variable {name}")
        return _FROM_ENVIRONMENT.format(name)

    def _variable(self, secret: str, shown: str) -> str:
        named = re.fullmatch(r"\$\{(\w+)\}", secret)  # how pip records a variable of a requirements file
        if secret not in self._variables:
            self._variables[secret] = named[1] if named else f"EXPORTED_SECRET_{len(self._variables) + 1}"
            self._note(self._variables[secret], shown)
        return self._variables[secret]

    def _note(self, variable: str, use: str) -> None:
        line = f"Not written down: a secret. Set the variable {variable} before a run, for {use}"
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
    """The tasks that create one environment."""

    def __init__(self, machine: Machine, prefix: Path, hidden: _Secrets, *, pinned: bool) -> None:
        self._machine = machine
        self._prefix = prefix
        self._hidden = hidden
        self._pinned = pinned
        by_path = {os.path.realpath(listed.prefix): listed for listed in reversed(machine.conda.environments())}
        self._environment = by_path.get(os.path.realpath(prefix), Environment(prefix.name, prefix))
        self._name = prefix.name if self._environment.name == "base" else self._environment.name

    @property
    def _reference(self) -> str:
        """The environment's reference in tasks: its name, if that leads here after a restart or on another image."""
        conda = self._machine.conda
        is_known = conda.prefix_of(self._environment.name) == self._prefix
        if self._environment.provided and is_known:
            return self._environment.name
        return self._name if is_known and conda.new_prefix(self._name) == self._prefix else str(self._prefix)

    def tasks(self, kernels: list[inventory.KernelInfo]) -> Iterator[ExportedTask]:
        """The tasks of the environment itself, of its pip packages, and of its kernels."""
        if self._environment.provided:
            yield from self._changes_of_image()
        else:
            if is_environment(self._prefix):
                yield self._conda_env()
            requests, left_over = requested.by_pip(self._prefix, pinned=self._pinned)
            comments = _left_over(left_over)
            if not is_environment(self._prefix):
                yield self._virtual_env()
            yield from self._by_pip(requests, comments)
        yield from self._kernels(kernels)

    def _conda_env(self) -> ExportedTask:
        """The task of a conda environment."""
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
        return ExportedTask(
            name=_untemplated(f"The environment {self._name}"),
            kind="ensure_conda_env",
            parameters={**parameters, **self._conda_parameters(request)},
            comments=tuple(comments),
        )

    def _virtual_env(self) -> ExportedTask:
        """The task of a virtual environment."""
        named = self._machine.conda.virtual_environments().get(self._prefix.name) == self._prefix
        where = {"name": self._prefix.name} if named else {"path": _untemplated(str(self._prefix))}
        python = distributions.python_version(self._prefix)
        return ExportedTask(
            name=_untemplated(f"The environment {self._name}"),
            kind="ensure_venv",
            parameters=where if python is None else {**where, "python": interpreters.minor(python)},
        )

    def _conda_parameters(self, request: CondaRequests) -> dict[str, Any]:
        parameters: dict[str, Any] = {}
        if request.channels:
            parameters["channels"] = [self._hidden.without(channel) for channel in request.channels]
        if request.specs:
            parameters["packages"] = [self._hidden.without(spec) for spec in request.specs.values()]
        return parameters

    def _by_pip(self, requests: list[PipRequest], comments: tuple[str, ...], **more: Any) -> Iterator[ExportedTask]:
        if not requests:
            return
        gone = [request for request in requests if request.gone]
        lost = tuple(f"{request.name} was installed from {request.gone}, which no longer exists" for request in gone)
        yield ExportedTask(
            name=_untemplated(f"Packages requested from pip and uv in {self._name}"),
            kind="ensure_pip_pkg",
            parameters={
                "env": _untemplated(self._reference),
                "packages": [self._hidden.without(request.requirement) for request in requests],
                **more,
            },
            comments=comments + lost,
        )

    def _kernels(self, kernels: list[inventory.KernelInfo]) -> Iterator[ExportedTask]:
        for kernel in kernels:
            if kernel.prefix != str(self._prefix) or kernel.hidden_by is not None or self._is_provided(kernel):
                continue
            kernel_task = kernel_parameters(kernel, self._prefix, self._reference)
            if kernel_task is None:
                continue
            variables = kernel_task.pop("environment", {})
            parameters = _all_untemplated(kernel_task)
            if variables:
                parameters["environment"] = {name: self._hidden.value(name, text) for name, text in variables.items()}
            yield ExportedTask(
                name=_untemplated(f"The kernel {kernel.name}"), kind="ensure_kernel", parameters=parameters
            )

    def _is_provided(self, kernel: inventory.KernelInfo) -> bool:
        """Whether the kernel belongs to ipykernel or to the platform's image."""
        if kernel.scope == "env" and kernel.name == "python3":
            return True
        image = self._environment.provided and kernel.scope != "user"
        return image and not requested.is_newer_than_start(Path(kernel.folder) / SPEC)

    def _changes_of_image(self) -> Iterator[ExportedTask]:
        """The tasks of packages that were added to, or changed in, an environment of the platform's image."""
        since, comments = self._since()
        more: dict[str, Any] = {"jupyter_server": True} if self._environment.jupyter_server else {}
        allowed = {**more, "allow_platform_changes": True}
        conda = self._machine.conda
        for names, extra in ((since.packages - since.moved, more), (since.packages & since.moved, allowed)):
            request = requested.by_conda(self._prefix, conda.condarc, conda.channels(), pinned=self._pinned, only=names)
            if request.specs:
                yield ExportedTask(
                    name=_untemplated(f"{'Moved' if extra is allowed else 'Added'} by conda in {self._name}"),
                    kind="ensure_conda_pkg",
                    parameters={"env": _untemplated(self._reference), **self._conda_parameters(request), **extra},
                    comments=(*comments, *_guessed(request)),
                )
                comments = ()
        came = since.distributions - since.moved
        requests, left_over = requested.by_pip(self._prefix, pinned=self._pinned, only=came)
        yield from self._by_pip(requests, comments + _left_over(left_over), **more)
        moved, _ = requested.by_pip(self._prefix, pinned=True, only=since.distributions & since.moved)
        yield from self._by_pip(moved, (), **allowed)

    def _since(self) -> tuple[Since, tuple[str, ...]]:
        recorded = image.known_baseline(self._machine, self._prefix)
        if recorded is None:
            comment = f"No run has recorded the image's packages in {self._name}: these are newer than the start"
            return requested.since_start(self._prefix), (comment,)
        changes = image.differences(recorded.content, image.content(self._prefix))
        gone = [change.name for change in changes if change.after is None]
        kept = [change for change in changes if change.after is not None]
        moved = {change.name for change in kept if change.before is not None}
        packages = {change.name for change in kept if change.kind == "conda"}
        # A package that conda moved is listed once; the folders show which one pip replaced.
        python = {change.name for change in kept if change.kind == "pip"} | set(map(distributions.normalized, packages))
        comments = (f"These packages of the image are missing: {', '.join(gone)}",) if gone else ()
        return Since(frozenset(packages), frozenset(python), frozenset(moved)), comments


def kernel_parameters(kernel: inventory.KernelInfo, prefix: Path, reference: str) -> dict[str, Any] | None:
    """The parameters of an ``ensure_kernel`` task that creates this kernel; None if its kernel.json is unreadable.

    Args:
        kernel: A kernel of the environment.
        prefix: The environment.
        reference: The environment's reference in tasks.

    """
    spec = machine_kernels.decoded(machine_kernels.read_file(Path(kernel.folder) / SPEC))
    if not isinstance(spec, dict) or not isinstance(spec.get("argv"), list):
        return None
    words = [str(word) for word in spec["argv"]]
    metadata = _mapping(spec.get("metadata"))
    mark = metadata.pop(_KERNEL_MARK, None)
    variables = {str(name): str(value) for name, value in _mapping(spec.get("env")).items()}
    is_python = any(word in ("ipykernel_launcher", "ipykernel", "ipykernel.kernelapp") for word in words)
    values: dict[str, Any] = {"env": reference} if is_python else {"argv": words}
    values |= {"name": kernel.name, "display_name": kernel.display_name or kernel.name}
    if kernel.language not in (None, "python"):
        values["language"] = kernel.language
    if is_python and isinstance(mark, dict):
        if variables.get(_NO_USER_SITE) == "1":
            del variables[_NO_USER_SITE]
        else:
            values["user_site"] = True
        if not any(word.endswith(f"/{LAUNCHER}") for word in words):
            values["activate"] = False
        if mark.get("validated"):
            values["validate"] = True
    if variables:
        values["environment"] = variables
    if kernel.scope != "user":
        values["scope"] = kernel.scope
    if spec.get("interrupt_mode") in ("signal", "message"):
        values["interrupt_mode"] = spec["interrupt_mode"]
    usual = _mapping(kernelspec.bundled_spec(prefix).get("metadata", {"debugger": True})) if is_python else {}
    if own_metadata := {key: value for key, value in metadata.items() if usual.get(key, object) != value}:
        values["metadata"] = own_metadata
    return values


def _mapping(value: Any) -> dict[str, Any]:
    return dict(value) if isinstance(value, dict) else {}


def _guessed(request: CondaRequests) -> list[str]:
    comment = "The requested packages are not recorded: these are the packages that no other needs."
    return [comment] * request.guessed


def _left_over(names: list[str]) -> tuple[str, ...]:
    return (f"Left out, since they were not requested and nothing needs them: {', '.join(names)}",) if names else ()


def _untemplated(text: str) -> str:
    """Escape a text so that a playbook takes it literally, with any braces in it."""
    return _TEMPLATE_MARKS.sub(lambda match: f"{{{{ '{match[0]}' }}}}", text)


def _all_untemplated(value: Any) -> Any:
    if isinstance(value, str):
        return _untemplated(value)
    if isinstance(value, dict):
        return {key: _all_untemplated(entry) for key, entry in value.items()}
    return [_all_untemplated(entry) for entry in value] if isinstance(value, list) else value


class ExportedTask(msgspec.Struct, frozen=True, kw_only=True):
    """A task to write into a playbook.

    Attributes:
        name: Its name.
        kind: Its key.
        parameters: Plain data; texts are copied unchanged, templates included.
        comments: Lines before it.

    """

    name: str
    kind: str
    parameters: dict[str, Any]
    comments: tuple[str, ...] = ()


def playbook_text(name: str, tasks: list[ExportedTask], comments: list[str]) -> str:
    """Return a playbook of one play as text: YAML in ASCII, empty lines between tasks, comments before them."""
    lines = [*map(_comment, comments), *_dumped([{"name": name}]), "  tasks:" if tasks else "  tasks: []"]
    for number, task in enumerate(tasks):
        lines += [""] * bool(number)
        lines += [_INDENT + _comment(text) for text in task.comments]
        lines += [_INDENT + line for line in _dumped([{"name": task.name, task.kind: task.parameters}])]
    return "\n".join([*lines, ""])


def _dumped(value: Any) -> list[str]:
    text = yaml.dump(value, Dumper=_Dumper, sort_keys=False, allow_unicode=False, width=_WIDTH)
    return str(text).splitlines()


def _comment(text: str) -> str:
    """Return a comment line in ASCII, whatever names the text contains."""
    return "# " + "".join(letter if " " <= letter <= "~" else "?" for letter in text)


class _Dumper(yaml.SafeDumper):
    """Indents lists below their key, as people write them, and writes no aliases."""

    def increase_indent(self, flow: bool = False, indentless: bool = False) -> None:
        super().increase_indent(flow, False)

    def ignore_aliases(self, data: Any) -> bool:
        return True
