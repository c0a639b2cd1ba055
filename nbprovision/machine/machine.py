"""Facts about the machine, each read at its first use."""

from __future__ import annotations

import contextlib
import contextvars
import copy
import functools
import os
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

from nbprovision.machine import platform as platform_facts
from nbprovision.machine.archives import Archives
from nbprovision.model.errors import ParameterError
from nbprovision.model.task import Claim, Foretold
from nbprovision.system import inputs, unfinished
from nbprovision.system.inputs import Environment, Inputs, remembered
from nbprovision.system.places import existing, tool_home, user_home

if TYPE_CHECKING:
    from nbprovision.machine.digests import Digests
    from nbprovision.machine.environments import CondaFacts
    from nbprovision.machine.locked import LockedEnvironment
    from nbprovision.machine.variables import Variables


# What the task that this thread works for has said of itself.
_REPORTED: contextvars.ContextVar[dict[str, Any] | None] = contextvars.ContextVar("reported", default=None)
_NOTED: contextvars.ContextVar[list[str] | None] = contextvars.ContextVar("noted", default=None)


NOTIFIED = "notified"  # in `Machine.notes`: when the handler that runs now was last notified, seconds since the epoch
# The caches of environments that are not on the home folder's file system lie beside these.
CACHE_BESIDE = ".nbprovision-cache"
_LONGEST_NAME = 255  # bytes
_LONGEST_PATH = 3000  # of the 4095 that Linux takes

SomeTask = TypeVar("SomeTask")
Value = TypeVar("Value")


class _Fact(NamedTuple):
    """A fact about a task, and the files and variables that it was read from."""

    task: object  # keeps the task alive, so that no other object gets its id
    value: Any
    sources: Inputs


def once(method: Callable[[SomeTask, Machine], Value]) -> Callable[[SomeTask, Machine], Value]:
    """Keep what a method of a task works out, such as its target, until something changes (`Machine.forget`).

    A task is asked many times in a run: for its place in the order, its witnesses, its plan. Each use counts as a read
    of the fact's sources. Two tasks with the same parameters have a fact each.
    """

    @functools.wraps(method)
    def fact(task: SomeTask, machine: Machine) -> Value:
        key = (id(task), method.__name__)
        kept = machine.facts_of_tasks.get(key)
        if kept is None:
            with inputs.recorded() as sources:
                value = method(task, machine)
            machine.facts_of_tasks[key] = _Fact(task, value, sources)
            return value
        inputs.take(kept.sources)
        return kept.value  # type: ignore[no-any-return]

    return fact


class Machine:
    """The facts, and what a run adds to them: environments that it declares, claims of its tasks, who hears progress.

    Args:
        env: The environment variables; default those of this process.
        home: The tool's home folder; default by `system.places.tool_home`.
        root: Where the platform's marks are looked for.

    """

    def __init__(
        self, env: Mapping[str, str] | None = None, *, home: Path | None = None, root: Path = Path("/")
    ) -> None:
        self.env: dict[str, str] = Environment(os.environ if env is None else env)
        self.root: Path = root
        self.user_home: Path = Path(user_home(self.env))
        self.home: Path = home or Path(tool_home(self.env))
        self.declared: dict[str, Path] = {}
        self.virtual: set[Path] = set()  # those of them that are virtual environments
        self.claims: list[Claim] = []
        self.foretold: dict[Path, Foretold] = {}  # environments as the tasks before will leave them; with --check alone
        self.wanted: set[tuple[Path, str]] = set()
        self.expected: dict[Path, str | None] = {}
        self.sound: set[Path] = set()
        self.suspect: set[Path] = set()  # found half made when the run began; each task looks deeper into its part
        # What a task's apply leaves for the reading that verifies it, under a key of the task's own.
        self.notes: dict[object, Any] = {}
        self._notes_of: dict[int, tuple[object, dict[object, Any]]] = {}
        self.facts_of_tasks: dict[tuple[int, str], _Fact] = {}  # see `once`
        # What is planned will be applied at once, so that nobody waits to hear of it before.
        self.applies = False
        self.timeout: float | None = None
        # Seconds to wait for another run in an environment, None for ever.
        self.lock_timeout: float | None = None
        self.beside_a_run = False  # another run is at work in this home, and this one only reads
        self.on_progress: Callable[[str, float, float], None] = lambda text, done, total: None
        # Variables that a playbook sets for the work of one task.
        self.environment: dict[str, str] = {}
        # Files of this machine that are installed instead of what their URL in a lock leads to.
        self.archives = Archives()
        # In a run with a lock, what it has for each prefix.
        self.locked: Mapping[Path, LockedEnvironment] = {}
        self._views: list[Machine] = [self]

    @remembered
    def platform(self) -> platform_facts.Platform:
        """The kind of notebook machine."""
        return platform_facts.detect(self.root)

    @remembered
    def conda(self) -> CondaFacts:
        """Configuration, installations and environments of conda."""
        from nbprovision.machine.environments import CondaFacts

        return CondaFacts(self.env, self.user_home, self.home, self.platform, self.root, self.expected)

    @remembered
    def digests(self) -> Digests:
        """Digests of files, kept between runs."""
        from nbprovision.machine.digests import Digests

        return Digests(self.cache / "digests")

    @property
    def cache(self) -> Path:
        """The engines' caches, on the file system of the home folder."""
        return self.home / "cache"

    def is_lost_at_a_stop(self, path: str) -> bool:
        """Whether a path is in the user's home, and neither on the volume nor the tool's own."""
        volume = self.platform.volume if self.platform.kind == "notebook-instance" else None
        return _is_below(path, self.user_home) and not any(
            _is_below(path, folder) for folder in (volume, self.home) if folder is not None
        )

    def cache_near(self, prefix: Path) -> Path:
        """The caches from which an environment is linked: on its file system, so that nothing takes room twice.

        Where something lasts that the rest of the machine does not, the caches stay in the home folder there.
        """
        folder = existing(prefix.parent)
        if self.platform.volume is not None or folder.stat().st_dev == existing(self.home).stat().st_dev:
            return self.cache
        if existing(prefix).stat().st_dev != folder.stat().st_dev or not os.access(folder, os.W_OK | os.X_OK):
            return self.cache
        return prefix.parent / CACHE_BESIDE

    def prefix_of(self, reference: str, *, of: Path | None = None) -> Path:
        """The prefix of an environment given by name or path.

        Args:
            reference: A path (anything with a slash, ``~`` allowed), or a name known to conda, to ``envs_dirs`` or to
                an earlier task of the playbook.
            of: The environment that the current task makes, left out of the list.

        Raises:
            UnknownEnvironment: no such name; the message lists the known ones.

        """
        if "/" in reference or reference.startswith("~"):
            return self.path(reference)
        if reference in self.declared:
            return self.declared[reference]
        prefix = self.conda.prefix_of(reference)
        if prefix is not None:
            return prefix
        from nbprovision.machine.selectors import unknown

        virtual = self.conda.virtual_environments()
        if reference in virtual:
            return virtual[reference]
        declared = {name for name, prefix in self.declared.items() if prefix != of}
        raise unknown(reference, {*declared, *self.conda.names(), *virtual})

    def path(self, text: str) -> Path:
        """An absolute path with ``~`` and ``~/`` taken as the user's home.

        Raises:
            ParameterError: it is longer than any that Linux takes (path_resolution(7)), or than leaves room for what
                lies below it.

        """
        if text == "~" or text.startswith("~/"):
            text = f"{self.user_home}/{text[2:]}"
        path = os.path.abspath(text)
        names = os.fsencode(path).split(b"/")
        if max(map(len, names)) > _LONGEST_NAME or len(path) > _LONGEST_PATH:
            raise ParameterError(
                "",
                f"'{text[:40]}...' is too long for a path",
                cause=f"a name in a path has {_LONGEST_NAME} bytes at most, and a path of more than {_LONGEST_PATH} "
                "leaves no room for what lies below it",
                cure="give a shorter one",
            )
        return Path(path)

    def is_unfinished(self, prefix: Path) -> bool:
        """Whether an environment is half made or half changed, and no task of this run has proven it since."""
        return prefix not in self.sound and unfinished.is_marked(prefix)

    def claims_on(self, prefix: Path) -> list[Claim]:
        """The distributions that pip tasks of the playbook want in ``prefix``."""
        return [claim for claim in self.claims if claim.prefix == prefix]

    def progress(self, text: str, done: float = 0, total: float = 0) -> None:
        """Report how far long work is."""
        self.on_progress(text, done, total)

    def report(self, **values: Any) -> None:
        """Add values to the result of the current task, for later tasks that register it."""
        reported = _REPORTED.get()
        if reported is not None:
            reported.update(values)

    @contextlib.contextmanager
    def reporting(self) -> Iterator[dict[str, Any]]:
        """Gather the values given to `report` while the body runs."""
        reported: dict[str, Any] = {}
        token = _REPORTED.set(reported)
        try:
            yield reported
        finally:
            _REPORTED.reset(token)

    def note(self, text: str) -> None:
        """Warn that the current task relies on a cache because its server is unreachable.

        Its result is not proven, so the next run checks again.
        """
        noted = _NOTED.get()
        if noted is not None and text not in noted:
            noted.append(text)

    @contextlib.contextmanager
    def noting(self) -> Iterator[list[str]]:
        """Gather the notes while the body runs; an outer `noting` gets them too."""
        noted: list[str] = []
        token = _NOTED.set(noted)
        try:
            yield noted
        finally:
            _NOTED.reset(token)
            for text in noted:
                self.note(text)

    def keep(self) -> None:
        """Save expensive results for the next run."""
        if "digests" in self.__dict__ and not self.beside_a_run:
            self.digests.save()

    def expect(self, files: Mapping[Path, str | None]) -> None:
        """Use configuration files in the form in which a task of the playbook will leave them; None for no file.

        Later tasks are planned with it, also with ``--check``: the folder of an environment, its channels.
        """
        if files:
            self.expected.update(files)
            self.forget()

    def forget(self) -> None:
        """Forget the facts, so that each is read again at its next use; called after each change."""
        for view in self._views:
            view.__dict__.pop("conda", None)
            view.facts_of_tasks = {}

    def seen_with(self, environment: Mapping[str, str], *, applies: bool) -> Machine:
        """The same machine as seen by a task with more environment variables; facts are shared.

        Args:
            environment: The variables, which override existing ones.
            applies: Whether what is planned with it will be applied.

        """
        for view in self._views:
            if view.environment == environment and view.applies == applies:
                return view
        view = copy.copy(self)
        view.__dict__.pop("conda", None)  # its configuration is read from the environment too
        view.facts_of_tasks = {}
        view.environment = dict(environment)
        view.env = Environment({**self.env, **environment}, given=environment)
        view.user_home = Path(user_home(view.env))
        view.applies = applies
        self._views.append(view)
        return view

    def notes_of(self, task: object) -> dict[object, Any]:
        """The notes of a task, kept for the whole run; another task with the same parameters has its own."""
        # With the task, so that no other object can get its id while the notes exist.
        return self._notes_of.setdefault(id(task), (task, {}))[1]

    def variables(
        self, looked_at: dict[Path, bool] | None = None, asked: Mapping[str, Callable[[], Any]] | None = None
    ) -> Variables:
        """Facts that a playbook's templates may use, as ``nb.NAME``.

        Args:
            looked_at: Takes up the paths that they are read from, and whether something was there.
            asked: Functions for the facts that only others know; without one, a placeholder stands for the fact.

        """
        from nbprovision.machine.variables import Variables

        return Variables(self, {} if looked_at is None else looked_at, asked)


def _is_below(path: str, folder: Path) -> bool:
    return path == str(folder) or path.startswith(f"{folder}/")
