"""The base of every task: a frozen record of parameters that can be read, planned, applied and verified."""

from __future__ import annotations

import fnmatch
import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Generic, Literal, NamedTuple, TypeVar

import msgspec

from nbprovision.model.errors import Position
from nbprovision.model.relations import Relation, hold
from nbprovision.model.result import Change, Plan

if TYPE_CHECKING:  # the machine lies above; only its type is named here
    from nbprovision.machine.machine import Machine

State = TypeVar("State")

# A parameter that takes one string or a list of them, as Ansible's do.
Strings = str | list[str]


# Seconds for which the newest version of something counts as such.
DAY = 86400.0

# A length of time: a number and s, m, h or d.
Duration = Annotated[str, msgspec.Meta(pattern=r"^[0-9]{1,6}[smhd]$", examples=["90s", "30m", "12h", "7d"])]


def as_list(value: Strings | None) -> list[str]:
    """One string or several, as a list."""
    if value is None:
        return []
    return [value] if isinstance(value, str) else list(value)


def by_path(value: Strings | None) -> list[Path]:
    """Those of a parameter's values that are absolute paths; of relative ones the playbook has made such."""
    return [Path(text) for text in as_list(value) if text.startswith("/")]


def unfit(value: Any) -> str:
    """Describe a character in a parameter's texts that no file, command or variable can hold; empty for none."""
    if isinstance(value, str):
        if "\0" in value:
            return "a NUL, which no path, command or variable can hold"
        if any("\ud800" <= character <= "\udfff" for character in value):
            return "a byte, or half of a character, that is not UTF-8"
        return ""
    parts = (*value.keys(), *value.values()) if isinstance(value, dict) else value if isinstance(value, list) else ()
    return next((problem for part in parts if (problem := unfit(part))), "")


_EMPTY = (
    (re.compile(r"(?i)\bhttps?://[^\s/:@]+:@"), "a URL with a user and an empty password"),
    (re.compile(r"(?i)\bhttps?://:?@"), "a URL with an empty user"),
    (re.compile(r"(?i)\bhttps?://[^\s/]+(/[^\s?#]*)?/t//"), "a URL with an empty token"),
)


def empty_secret(value: Any) -> str:
    """A URL in a parameter's texts whose password or token is empty, in words; empty where there is none.

    It comes of a variable without a value, and would take the place of a URL that works.
    """
    if isinstance(value, str):
        return next((what for pattern, what in _EMPTY if "://" in value and pattern.search(value)), "")
    parts = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    return next((problem for part in parts if (problem := empty_secret(part))), "")


HOW_TO_FILL = "set the variable that it is made of; for a user without a password write USER@HOST"


def parameter(description: str, *, extra: dict[str, Any] | None = None) -> msgspec.Meta:
    """Describe a parameter; the one source of ``nbprovision doc``, the schema and the reference page.

    Args:
        description: One or two sentences; a default that is worked out belongs into it.
        extra: Properties for the reader of playbooks: ``path`` for a path (True, or a rule by which a text is one),
            ``document`` and ``renders`` for files that it reads.

    """
    return msgspec.Meta(description=description, extra=extra)


def seconds(duration: str) -> float:
    """The length of ``90s``, ``30m``, ``12h`` or ``7d`` in seconds."""
    return float(duration[:-1]) * {"s": 1, "m": 60, "h": 3600, "d": 86400}[duration[-1]]


class Resource(NamedTuple):
    """Something that a task makes or needs: ``Resource("environment", "/path/of/prefix")``.

    Kinds in use: ``environment`` (the prefix), ``distribution`` (``PREFIX name``), ``kernel`` (path of its folder),
    ``index`` (path of its pip.conf), ``condarc`` (its path), ``channel`` (its folder), ``file`` (its path).
    """

    kind: str
    identity: str


class Claim(NamedTuple):
    """A distribution that a pip task wants in a prefix; see "Who owns what" in docs/reference."""

    prefix: Path
    requirement: str  # PEP 508
    absent: bool = False


class Setting(NamedTuple):
    """One value that a task wants in a file which other tasks may write to as well."""

    file: str  # its path
    key: tuple[str, ...]  # where it stands in the file, the outermost key first
    value: object  # None for a value that must be absent
    pattern: bool = False  # ``file`` is a pattern that means several

    def shares_file(self, other: Setting) -> bool:
        """Whether both are in the same file, as far as patterns show."""
        if self.pattern == other.pattern:
            return self.file == other.file
        pattern, path = (self, other) if self.pattern else (other, self)
        return fnmatch.fnmatchcase(path.file, pattern.file)


class Foretold(NamedTuple):
    """The known content of an environment after a plan; later tasks use it with ``--check``."""

    python: str | None  # its future version, None for no Python
    packages: Mapping[str, str]  # versions by normalised name
    whole: bool = True  # no package is missing there, as the dependencies of what pip will bring are


class Input(NamedTuple):
    """A file or folder of the playbook's author that a task reads."""

    path: Path
    parameter: str  # that names it, itself or by a file that does
    position: Position | None = None  # where a file names it


class LockRequest(msgspec.Struct, frozen=True, kw_only=True):
    """What a task requests in one environment, for a lock of the playbook; each subject has its own kind of request.

    Attributes:
        prefix: The environment, or another folder that receives packages.

    """

    prefix: Path


class Origin(NamedTuple):
    """The origin of a kind of task that is not nbprovision's own.

    Attributes:
        package: The installed package with its version; empty for a file of `task_folders`.
        code: A digest of its code, which belongs to all of its results.

    """

    package: str
    code: str


def class_name(kind: str) -> str:
    """The name of the class for a key in a playbook: ``EnsureCondaEnv`` for ``ensure_conda_env``."""
    return "".join(word.capitalize() for word in kind.split("_"))


class Task(msgspec.Struct, Generic[State], frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One kind of thing to ensure; its fields are the parameters that a playbook gives.

    A subclass lives in ``nbprovision/SUBJECT/ensure_NAME.py``, is called ``EnsureName``, describes each field with
    ``Annotated[type, parameter("...")]``, declares in ``relations`` which of them go
    together, checks the rest in ``check`` (raising `ParameterError`)
    and implements ``read``, ``plan``, ``apply`` and ``witnesses``. The engine does the rest.

    Attributes:
        examples: A list of tasks in YAML that show its use; each one runs.
        actions: What it can have changed (`Change.action`), each with what that means.
        handler_only: It may stand under ``handlers`` alone.
        awaits: Kinds of resource of which any that comes may be meant by a pattern, where the task is a barrier.
        habits: Parameters that users of Ansible's modules write, each with what to write here.
        in_root: Whether root does it: ``always``, ``never``, or ``may`` where a parameter decides (`of_root`).
        relations: Which parameters go together; see `model.relations`.
        origin: Where it comes from, if it is not nbprovision's own; its loader sets this.

    """

    examples: ClassVar[str] = ""
    actions: ClassVar[Mapping[str, str]] = {}
    handler_only: ClassVar[bool] = False
    awaits: ClassVar[frozenset[str]] = frozenset()
    habits: ClassVar[Mapping[str, str]] = {}
    relations: ClassVar[tuple[Relation, ...]] = ()
    in_root: ClassVar[Literal["always", "may", "never"]] = "never"
    origin: ClassVar[Origin | None] = None

    deep: Annotated[
        bool, parameter("Compare the files themselves (sizes and hashes), not only names and versions.")
    ] = False
    refresh_every: Annotated[
        Duration | None,
        parameter(
            "Look again after this long, whatever the witnesses say: `90s`, `30m`, `12h`, `7d`. Default: the task's own"
        ),
    ] = None

    def __post_init__(self) -> None:
        """Hold the parameters to what is declared of them."""
        hold(self, self.relations)
        self.check()

    def check(self) -> None:
        """Check what can be known of the parameters without looking at the machine.

        Raises:
            ParameterError: naming the parameter at fault.

        """

    @classmethod
    def kind(cls) -> str:
        """The key in a playbook: ``ensure_conda_env`` for ``EnsureCondaEnv``."""
        return re.sub(r"(?<!^)(?=[A-Z])", "_", cls.__name__).lower()

    def of_root(self) -> bool:
        """Whether it belongs under ``root_tasks``: root's part of a lifecycle script does its work."""
        return self.in_root == "always"

    def left_to_root(self, machine: Machine) -> bool:
        """Whether a run only compares: root's part of the lifecycle script does the work on this machine."""
        return self.of_root()

    def root_order(self) -> Mapping[str, Any]:
        """What root's program gets of it: plain data, in the form of `nbprovision.root`."""
        raise NotImplementedError

    def provides(self, machine: Machine) -> frozenset[Resource]:
        """The resources that later tasks may build on."""
        return frozenset()

    def requires(self, machine: Machine) -> frozenset[Resource]:
        """The resources that must exist first; may raise `UnknownEnvironment`."""
        return frozenset()

    def declares(self, machine: Machine) -> dict[str, Path]:
        """Environments that this task makes, name to prefix, so that later tasks can name them."""
        return {}

    def configures(self, machine: Machine) -> dict[Path, str | None]:
        """Files of conda's configuration as this task leaves them, None for no file; later tasks are planned with them.

        What the files are taken to say already stands in ``machine.expected``.
        """
        return {}

    def claims(self, machine: Machine) -> Iterable[Claim]:
        """Distributions that this task wants in prefixes which other tasks may describe as well."""
        return ()

    def conda_wishes(self, machine: Machine) -> Iterable[tuple[Path, str]]:
        """Conda packages, by prefix and name, that this task wants in prefixes which other tasks describe as well."""
        return ()

    def shared_values(self, machine: Machine) -> Iterable[Setting]:
        """Values in files that this task shares with others, which may want other values there."""
        return ()

    def objection(self, claim: Claim, machine: Machine) -> str | None:
        """Why a claim of another task can never agree with this one, or None."""
        return None

    def inputs(self, machine: Machine) -> Iterable[Input]:
        """Files and folders that have to be there before the run, so that who moves a playbook can take them along.

        Files that are named in files are among them, and so are missing ones.

        Raises:
            InvalidPlaybook: a file among them says what cannot be understood.

        """
        return ()

    def lock_requests(self, machine: Machine) -> Iterable[LockRequest]:
        """What a lock of the playbook pins for this task; worked out without a network and without a process."""
        return ()

    def as_locked(self) -> Task[State]:
        """The task in a run with a lock, which looks for no newer versions."""
        return self

    def guarded(self, machine: Machine) -> Iterable[Path]:
        """Prefixes that stand unfinished while this task is applied."""
        return ()

    def barrier(self, machine: Machine) -> bool:
        """Whether it may depend on anything before it in the playbook, and anything after it on what it does.

        It begins when all that stands before it is done, and not where something of that failed; what stands behind it
        waits for it.
        """
        return False

    def weight(self, machine: Machine) -> Literal[0, 1, 2]:
        """The expected cost of its work, by which tasks that could begin now are ordered.

        0 for a few small files, which a notebook needs when it starts; 1 for what is there and may have to change; 2
        for what has to be made. Nothing is read for it but whether something is there.
        """
        return 1

    def load(self, machine: Machine) -> None:
        """Begin to load what its work needs, if there is certainly work; the run goes on meanwhile.

        Called once, before the first step. It raises what it likes: the step itself will report it.
        """

    def read(self, machine: Machine) -> State:
        """The present state. Only reads, and starts no process if everything is in place."""
        raise NotImplementedError

    def plan(self, state: State) -> Plan:
        """The changes from ``state`` to what is wanted: a comparison of plain data, no I/O."""
        raise NotImplementedError

    def apply(self, plan: Any, machine: Machine) -> Sequence[Change] | None:
        """Carry out a plan that ``plan`` made, through backends and system only.

        Returns:
            What was changed, where that is known better by now than when it was planned.

        """
        raise NotImplementedError

    def witnesses(self, machine: Machine) -> Iterable[Path]:
        """Files and folders whose unchanged identity shows that the verified result still stands.

        A path that does not exist is a witness too: of its absence.
        """
        raise NotImplementedError

    def ages(self, machine: Machine) -> float | None:
        """Seconds for which a verified result holds of itself (a token, ``state: latest``), None for ever."""
        return None

    def foretells(self, plan: Any, machine: Machine) -> dict[Path, Foretold]:
        """The content of environments after a plan has been carried out."""
        return {}

    def proves(self, machine: Machine) -> bool:
        """Whether what is there can show that the work was done; if not, it is done at each run, and never verified."""
        return True

    def judged(self, machine: Machine, *, good: bool) -> None:
        """Learn that ``failed_when`` or ``until`` judged the work of `apply` otherwise than `apply` itself did.

        Args:
            machine: The facts.
            good: Whether it counts as done; if not, it is to be done again.

        """

    def holds_for(self, machine: Machine) -> float | None:
        """Seconds for which a verified result is trusted: ``refresh_every``, but never past what `ages` allows.

        Witnesses are folders and records, which do not show an edit within a file: a deep check is repeated at
        each run, unless ``refresh_every`` says how long it may count.
        """
        given = (0.0 if self.deep else None) if self.refresh_every is None else seconds(self.refresh_every)
        own = self.ages(machine)
        return min((limit for limit in (given, own) if limit is not None), default=None)
