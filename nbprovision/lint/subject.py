"""The files that rules check: a playbook with its tasks, or the text of a lifecycle script."""

from __future__ import annotations

import contextlib
import os
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import msgspec

from nbprovision.lint.shell import Command, ShellScript, User
from nbprovision.machine.expansion import expanded
from nbprovision.machine.machine import Machine
from nbprovision.machine.platform import PlatformKind
from nbprovision.model.errors import (
    InvalidPlaybook,
    MissingInput,
    ParameterError,
    Position,
    ProvisionError,
    UnknownEnvironment,
    UnsetVariable,
)
from nbprovision.model.result import Result, as_variables
from nbprovision.model.task import Resource, Task
from nbprovision.playbook import read
from nbprovision.playbook.calls import Block, Entry, TaskCall, calls_of
from nbprovision.playbook.faults import single_faults
from nbprovision.playbook.outside import Outside
from nbprovision.playbook.template import UNRESOLVED, NotYetKnown, Unknown
from nbprovision.playbook.template_names import has_template
from nbprovision.playbook.written import shown
from nbprovision.playbook.yaml_nodes import ListNode, MapNode, Node, Scalar, plain, read_nodes, scalars
from nbprovision.system.reading import read_bytes

_MAKER = "ensure_conda_env"
_NAMES = ("name", "prefix")
Catalogue = Mapping[str, type[Task[Any]]]


class Call(msgspec.Struct, frozen=True, kw_only=True):
    """A task of the playbook.

    Attributes:
        kind: The task's key.
        name: Its name in the playbook.
        position: The position of the key.
        parameters: The mapping below the key.
        values: Its parameters, evaluated if possible; otherwise with their templates.
        task: The task; None if its parameters are wrong, or depend on the results of earlier tasks.
        handler: Whether it is listed under ``handlers``.
        rescue: Whether it is listed under ``rescue``.
        here: Whether its ``when`` is true on this machine, or not known yet.
        conditional: Whether its ``when`` skips it if no earlier task changes anything.
        register: The name of the variable for its result, or nothing.
        notify: The handlers that it notifies.
        listen: The names to which a handler listens.
        unresolved: The fault in its templates, if it is skipped on this machine.

    """

    kind: str
    name: str
    position: Position
    parameters: MapNode
    values: Mapping[str, Any]
    task: Task[Any] | None
    handler: bool = False
    rescue: bool = False
    here: bool = True
    conditional: bool = False
    register: str = ""
    notify: tuple[str, ...] = ()
    listen: tuple[str, ...] = ()
    unresolved: ProvisionError | None = None

    def at(self, *keys: str) -> Position:
        """Return the position of the first given parameter of these; otherwise that of the task."""
        return next((node.position for key in keys if (node := self.parameters.get(key)) is not None), self.position)

    def entries(self, *keys: str) -> Iterator[tuple[str, Position]]:
        """Return the strings of parameters that take one or several, with their positions; no unevaluated templates."""
        for key in keys:
            value, node = self.values.get(key), self.parameters.get(key)
            nodes = node.items if isinstance(node, ListNode) else ()
            for number, text in enumerate(value if isinstance(value, list) else [value]):
                if isinstance(text, str) and not has_template(text):
                    yield text, nodes[number].position if number < len(nodes) else self.at(key)

    def strings(self, *keys: str) -> list[str]:
        """Return the same strings without their positions."""
        return [text for text, _ in self.entries(*keys)]

    @property
    def state(self) -> str:
        """The parameter ``state``."""
        return str(self.values.get("state", "present"))


# The origin of a platform that the command line names.
ASSUMED = "--platform"
ELSEWHERE = Unknown("the run")


def is_of_elsewhere(fault: ProvisionError) -> bool:
    """Whether a fault is only that a value is unknown here; the machine that runs the playbook knows it."""
    return isinstance(fault, NotYetKnown) and fault.unknown is ELSEWHERE


class Elsewhere(dict[str, str]):
    """Environment variables; a variable that is unset here may be set on the machine that runs the playbook."""

    def get(self, name: str, default: Any = None) -> Any:
        """Return the value, or the template's own default.

        Raises:
            NotYetKnown: both are missing.

        """
        if name in self or default is not None:
            return super().get(name, default)
        raise NotYetKnown(f"lookup('env', '{name}')", ELSEWHERE)


# Folders that exist on the machines of the platform only.
_PLATFORM_FOLDERS = ("/home/ec2-user/", "/home/sagemaker-user/", "/home/studio-lab-user/", "/opt/ml/", "/mnt/")


class OutsideElsewhere(Outside):
    """The files that templates read; a file that is missing here may exist on the machine that runs the playbook."""

    def read(self, path: Path, what: str) -> str:
        """Return the text of a file.

        Raises:
            NotYetKnown: the file belongs to the other machine.

        """
        if str(path).startswith(_PLATFORM_FOLDERS) and not path.exists():
            raise NotYetKnown(str(path), ELSEWHERE)
        return super().read(path, what)


def outside_of(machine: Machine) -> type[Outside]:
    """Return the reader of files for a playbook that will run on ``machine``."""
    if machine.platform.because == ASSUMED:
        return OutsideElsewhere

    class OutsideHere(Outside):
        def secret(self, kind: str, name: str, region: str | None) -> str:
            from nbprovision.machine import aws

            aws.require_command(machine, kind, name)
            return super().secret(kind, name, region)

    return OutsideHere


class Playbook:
    """A playbook, as far as it can be read.

    Args:
        path: Its file.
        machine: Facts of the machine that will run it.
        catalogue: Every kind of task.
        extra_vars: Variables of the command line.

    Attributes:
        faults: The faults for which reading it in a run would fail.
        refused: The faults of parameters, and of files that these name, for which a run would refuse it.
        calls: Its tasks in order, handlers last; with unevaluated values if it has faults.
        objections: The errors of tasks that name a missing environment.
        idle: The positions of plays without a task.
        certain: Whether the name of every environment that the playbook makes is known.

    """

    def __init__(self, path: Path, machine: Machine, catalogue: Catalogue, extra_vars: Mapping[str, Any]) -> None:
        self.path = path
        self.machine = machine
        self.catalogue = catalogue
        self.faults: list[ProvisionError] = []
        self.calls: list[Call] = []
        self.idle: list[Position] = []
        self.nodes: dict[Path, Node] = {}
        self.certain = True
        self.refused: list[ProvisionError] = []
        files = [path]
        try:
            # Another machine may set a variable that is unset here.
            env = Elsewhere(machine.env) if machine.platform.because == ASSUMED else machine.env
            playbook = read.read_playbook(
                path, catalogue, extra_vars, machine.variables(), env=env, outside=outside_of(machine)
            )
        except InvalidPlaybook as error:
            self.faults = [fault for fault in single_faults(error) if not is_of_elsewhere(fault)]
        else:
            own = Path(os.path.abspath(path))
            files += [file for file in playbook.content if file.name.endswith((".yml", ".yaml")) and file != own]
            self.calls = list(_read_calls(playbook))
            self.idle = [play.position for play in playbook.plays if not play.sections]
        for file in files:
            with contextlib.suppress(InvalidPlaybook):
                node = read_nodes(file)
                if node is not None:
                    self.nodes[file] = node
        self.objections = list(self._declare())
        if self.faults:
            self.calls = [call for node in self.nodes.values() for call in _written_calls(node, catalogue)]

    def _declare(self) -> Iterator[tuple[Call, UnknownEnvironment]]:
        """Declare to the machine, task by task, the configured and created things, as before a run."""
        here = [call for call in self.calls if call.here]
        for call in here:
            self._ask(call, lambda task: self.machine.expect(task.configures(self.machine)))
        for call in here:
            declared = self._ask(call, lambda task: self.machine.declared.update(task.declares(self.machine)))
            self.certain = self.certain and declared  # a name may be in a file that a task will create
            if call.task is None and call.kind == _MAKER:  # its name may be known although its packages are not
                self.certain = self.certain and not any(has_template(str(call.values.get(key))) for key in _NAMES)
                names = {name: self.machine.conda.new_prefix(name) for name in call.strings("name")}
                self.machine.declared.update(names)
            try:
                self._ask(call, lambda task: (task.requires(self.machine), task.provides(self.machine)))
                self._ask(call, lambda task: (list(task.claims(self.machine)), list(task.inputs(self.machine))))
            except UnknownEnvironment as error:
                yield call, error

    def _ask(self, call: Call, question: Callable[[Task[Any]], Any]) -> bool:
        """Ask a task a question that a run asks before it starts, and note the error for which a run would refuse it.

        Returns:
            Whether all files for the answer exist.

        Raises:
            UnknownEnvironment: the task names a missing environment.

        """
        if call.task is None:
            return True
        try:
            question(expanded(call.task))
        except UnknownEnvironment:
            raise
        except MissingInput:
            return False  # the rule missing-file knows whether a task makes it
        except ProvisionError as error:
            elsewhere = isinstance(error, UnsetVariable) and self.machine.platform.because == ASSUMED
            if error.exit_status == InvalidPlaybook.exit_status and not elsewhere:
                error.at(call.at(error.key) if isinstance(error, ParameterError) else call.position)
                if str(error) not in map(str, self.refused):
                    self.refused.append(error)
        return True

    @cached_property
    def scalars(self) -> list[tuple[tuple[Scalar, ...], Scalar]]:
        """Every value in the files, with the keys above it, the outermost first."""
        return [scalar for node in self.nodes.values() for scalar in scalars(node)]

    def of(self, *kinds: str) -> Iterator[Call]:
        """Return the tasks of these kinds."""
        return (call for call in self.calls if call.kind in kinds)

    @cached_property
    def text(self) -> str:
        """The playbook's own text, with its line ends."""
        return self.text_of(str(self.path))

    def text_of(self, file: str) -> str:
        """Return the text of one of its files; empty if it cannot be read."""
        try:
            return read_bytes(Path(file)).decode("utf-8", errors="surrogateescape")
        except OSError:
            return ""

    def answer(self, call: Call, question: Callable[[Task[Any]], Any]) -> Any:
        """Return a task's answer to a question about the machine; None if it has none."""
        if call.task is None:
            return None
        try:
            return question(expanded(call.task))
        except ProvisionError:
            return None

    def provided(self, call: Call) -> frozenset[Resource]:
        """Return the resources that a task provides."""
        return self.answer(call, lambda task: task.provides(self.machine)) or frozenset()


# Marks of the platform that a script is for: names of users, folders, programs and variables.
_STUDIO_MARKS = re.compile(
    r"sagemaker-user|/opt/conda\b|AWS_SAGEMAKER_JUPYTERSERVER_IMAGE|restart-jupyter-server|jupyterlabserver"
    r"|/var/log/(?:apps|studio)\b|/opt/amazon/sagemaker|\.SpaceName|\.DomainId"
)
_NOTEBOOK_MARKS = re.compile(r"ec2-user|JupyterSystemEnv|sagemaker-notebook-instance|jupyter-server\.service")
_STUDIO_NAMES = re.compile(r"on-(?:jupyter-server|kernel)-start")
_ONLY_STUDIO = re.compile(r"\bapt(?:-get)?\s+(?:-\S+\s+)*(?:install|update|remove|purge)\b")
# For each platform: the script's user, its folder, and the homes of the users.
_STARTS: Mapping[str, tuple[User, str, Mapping[User, str]]] = {
    "notebook-instance": ("root", "/", {"root": "/root", "user": "/home/ec2-user", "other": ""}),
    "studio": (
        "user",
        "/home/sagemaker-user",
        {"root": "/root", "user": "/home/sagemaker-user", "other": ""},
    ),
}


class Script:
    """A lifecycle script.

    Args:
        path: Its file.
        data: Its bytes.
        platform: The platform that it is for; None if its text decides.

    Attributes:
        lines: The lines without their ends and comments.

    """

    def __init__(self, path: Path, data: bytes, platform: PlatformKind | None = None) -> None:
        self.path = path
        self.data = data
        self.text = data.decode("utf-8", errors="surrogateescape")
        self.lines: Sequence[str] = [_without_comment(line) for line in self.text.split("\n")]
        self.platform: str = platform if platform is not None and platform in _STARTS else self._recognised()

    def _recognised(self) -> str:
        """The platform that the script names most; a notebook instance if it names none."""
        text = "\n".join(self.lines)
        studio = len(_STUDIO_MARKS.findall(text)) + 2 * len(_STUDIO_NAMES.findall(self.path.name))
        notebook = len(_NOTEBOOK_MARKS.findall(text))
        if studio > notebook or (not notebook and _ONLY_STUDIO.search(text)):
            return "studio"
        return "notebook-instance"

    @property
    def runs_once(self) -> bool:
        """Whether it is an on-create script, by its name."""
        return "create" in self.path.name.lower()

    @cached_property
    def home(self) -> str:
        """The home of the notebook's user."""
        return _STARTS[self.platform][2]["user"]

    @cached_property
    def volume(self) -> str:
        """The folder that survives a restart."""
        return f"{self.home}/SageMaker" if self.platform == "notebook-instance" else self.home

    @cached_property
    def shell(self) -> ShellScript:
        """Its commands."""
        first = self.lines[0] if self.lines else ""
        user, folder, homes = _STARTS[self.platform]
        errexit = re.match(r"#!\s*\S+sh\s+-\w*e", first) is not None
        return ShellScript(self.text, user, folder, homes, errexit=errexit)

    @property
    def commands(self) -> Sequence[Command]:
        """Its commands, in the order of the text."""
        return self.shell.commands

    def at(self, line: int, column: int = 0) -> Position:
        """Return the position for numbers that count from 0."""
        return Position(str(self.path), line + 1, column + 1)

    def at_offset(self, offset: int) -> Position:
        """Return the position of a character of the text."""
        return self.at(self.text.count("\n", 0, offset), offset - self.text.rfind("\n", 0, offset) - 1)


def is_script(path: Path, data: bytes) -> bool:
    """Whether a file is a shell script rather than a playbook."""
    return path.suffix in (".sh", ".bash") or data.lstrip(b"\xef\xbb\xbf\r\n\t ").startswith(b"#!")


def _read_calls(playbook: read.Playbook) -> Iterator[Call]:
    """Return the tasks in order, handlers last, without those of files that are included late."""
    names = (call.register for play in playbook.plays for call in play.calls if call.register)
    nothing = as_variables(Result(name="", task="", status="ok"))
    quiet = {name: {**nothing, "results": []} for name in names}
    for play in playbook.plays:
        rescues = {id(call) for section in play.sections for call in _rescues(section.entries)}
        for call in play.calls:
            if call.written.call is not None:
                yield _read_call(call, quiet, rescue=id(call) in rescues)
    for play in playbook.plays:
        yield from (_read_call(call, quiet, handler=True) for call in play.handlers if call.written.call is not None)


def _rescues(entries: Sequence[Entry]) -> Iterator[TaskCall]:
    for entry in entries:
        if isinstance(entry, Block):
            yield from calls_of(entry.rescue)
            yield from _rescues([*entry.body, *entry.always])


def _read_call(call: TaskCall, quiet: Mapping[str, Any], *, handler: bool = False, rescue: bool = False) -> Call:
    task, here = call.task, call.task is not None or call.late
    unresolved: ProvisionError | None = None
    if task is None and not call.empty:
        try:  # a task that is skipped here may run on another machine
            task = call.bind()
        except ProvisionError as error:
            unresolved = (
                error if getattr(error, "rule", "") == UNRESOLVED and not _checks_defined(call.written.when) else None
            )
    written = call.written.call
    assert written is not None  # noqa: S101 - callers skip the others
    values = _written_values(written.parameters)
    if task is not None:
        values |= {
            key: value for key, value in msgspec.to_builtins(task).items() if written.parameters.get(key) is not None
        }
    return Call(
        kind=call.kind,
        name=call.name,
        position=call.position,
        parameters=written.parameters,
        values=values,
        task=task,
        handler=handler,
        rescue=rescue,
        here=here,
        conditional="never" in call.tags or _is_skipped_if_quiet(call, quiet),
        register=call.register,
        notify=call.notify,
        listen=call.listen,
        unresolved=None if here else unresolved,
    )


def _is_skipped_if_quiet(call: TaskCall, quiet: Mapping[str, Any]) -> bool:
    """Whether a task depends on results of other tasks, and is skipped if all of these report ``quiet``.

    A condition on a value that only a command has (`stdout`, `rc`) counts as one that skips it.
    """
    try:
        call.written.setting.holds(call.written.when, "when")
    except NotYetKnown:
        pass
    except ProvisionError:
        return False
    else:
        return False
    try:
        return not call.wanted(dict(quiet))
    except ProvisionError:
        return True


def _checks_defined(conditions: Sequence[Node]) -> bool:
    """Whether a condition checks that a variable is defined, so that the task may use it."""
    return any("defined" in value.text for node in conditions for _, value in scalars(node))


def _written_values(node: MapNode) -> dict[str, Any]:
    return {key.text: shown(plain(value)) for key, value in node.pairs}


def _written_calls(node: Node, catalogue: Catalogue, *, handler: bool = False) -> Iterator[Call]:
    """Return every mapping that looks like a task."""
    if isinstance(node, ListNode):
        for item in node.items:
            yield from _written_calls(item, catalogue, handler=handler)
    elif isinstance(node, MapNode):
        for key, value in node.pairs:
            if key.value in catalogue and isinstance(value, MapNode):
                name = node.get("name")
                yield Call(
                    kind=key.text,
                    name=name.text if isinstance(name, Scalar) else key.text,
                    position=key.position,
                    parameters=value,
                    values=_written_values(value),
                    task=None,
                    handler=handler,
                )
            else:
                yield from _written_calls(value, catalogue, handler=handler or key.value == "handlers")


def _without_comment(line: str) -> str:
    """Return the line up to a ``#`` that begins a word outside of quotes; ``#!`` is not a comment."""
    quote = ""
    for number, letter in enumerate(line):
        if quote:
            quote = "" if letter == quote else quote
        elif letter in "'\"":
            quote = letter
        elif letter == "#" and (number == 0 or line[number - 1].isspace()) and line[number : number + 2] != "#!":
            return line[:number]
    return line
