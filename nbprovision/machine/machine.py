"""Everything that is known of the machine, read when it is first asked for."""

from __future__ import annotations

import contextlib
import contextvars
import copy
import os
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nbprovision.machine import platform as platform_facts
from nbprovision.model.errors import ParameterError
from nbprovision.model.task import Claim, Foretold
from nbprovision.system import unfinished
from nbprovision.system.inputs import Environment, remembered
from nbprovision.system.places import existing, tool_home, user_home

if TYPE_CHECKING:
    from nbprovision.machine.digests import Digests
    from nbprovision.machine.environments import CondaFacts


# What the task that this thread works for has said of itself.
_REPORTED: contextvars.ContextVar[dict[str, Any] | None] = contextvars.ContextVar("reported", default=None)
_NOTED: contextvars.ContextVar[list[str] | None] = contextvars.ContextVar("noted", default=None)


# The caches of environments that are not on the home folder's file system lie beside these.
CACHE_BESIDE = ".nbprovision-cache"
_LONGEST_NAME = 255  # bytes
_LONGEST_PATH = 3000  # of the 4095 that Linux takes


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
        # What is planned will be applied at once, so that nobody waits to hear of it before.
        self.applies = False
        self.timeout: float | None = None
        # Seconds to wait for another run in an environment, None for ever.
        self.lock_timeout: float | None = None
        self.beside_a_run = False  # another run is at work in this home, and this one only reads
        self.on_progress: Callable[[str, float, float], None] = lambda text, done, total: None
        # Variables that a playbook sets for the work of one task.
        self.environment: dict[str, str] = {}
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
            of: The environment that the task at work makes, which is none to name.

        Raises:
            UnknownEnvironment: no such name; the message lists those that are known.

        """
        if "/" in reference or reference.startswith("~"):
            return self.path(reference)
        if reference in self.declared:
            return self.declared[reference]
        found = self.conda.prefix_of(reference)
        if found is not None:
            return found
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
        """What pip tasks of the playbook want in ``prefix``."""
        return [claim for claim in self.claims if claim.prefix == prefix]

    def progress(self, text: str, done: float = 0, total: float = 0) -> None:
        """Tell whoever watches how far long work is."""
        self.on_progress(text, done, total)

    def report(self, **values: Any) -> None:
        """Say more of the task at work than its changes do; later tasks may ask for it by its registered result."""
        reported = _REPORTED.get()
        if reported is not None:
            reported.update(values)

    @contextlib.contextmanager
    def reporting(self) -> Iterator[dict[str, Any]]:
        """Gather what `report` is told while the body runs."""
        reported: dict[str, Any] = {}
        token = _REPORTED.set(reported)
        try:
            yield reported
        finally:
            _REPORTED.reset(token)

    def note(self, text: str) -> None:
        """Warn of how the task at work came to what it knows: from a cache, as its server stayed away.

        What is known so is not proven; the next run looks again.
        """
        noted = _NOTED.get()
        if noted is not None and text not in noted:
            noted.append(text)

    @contextlib.contextmanager
    def noting(self) -> Iterator[list[str]]:
        """Gather what `note` is told while the body runs; whoever gathers around it hears of it too."""
        noted: list[str] = []
        token = _NOTED.set(noted)
        try:
            yield noted
        finally:
            _NOTED.reset(token)
            for text in noted:
                self.note(text)

    def keep(self) -> None:
        """Keep what was worked out at some cost for the next run."""
        if "digests" in self.__dict__ and not self.beside_a_run:
            self.digests.save()

    def expect(self, files: Mapping[Path, str | None]) -> None:
        """Take configuration files as a task of the playbook is going to leave them; None for no file.

        Later tasks are planned with it, and with ``--check`` as well: where an environment of some name will lie, which
        channels it comes from.
        """
        if files:
            self.expected.update(files)
            self.forget()

    def forget(self) -> None:
        """Read everything anew when it is next asked for; called after each change."""
        for view in self._views:
            view.__dict__.pop("conda", None)

    def seen_with(self, environment: Mapping[str, str], *, applies: bool) -> Machine:
        """The same machine as a task sees it that works with more environment variables; what is known is shared.

        Args:
            environment: The variables, over those that are there.
            applies: Whether what is planned with it will be applied.

        """
        for view in self._views:
            if view.environment == environment and view.applies == applies:
                return view
        view = copy.copy(self)
        view.__dict__.pop("conda", None)  # its configuration is read from the environment too
        view.environment = dict(environment)
        view.env = Environment({**self.env, **environment}, given=environment)
        view.user_home = Path(user_home(view.env))
        view.applies = applies
        self._views.append(view)
        return view

    def notes_of(self, task: object) -> dict[object, Any]:
        """What a task has worked out in this run; another task with the same parameters has notes of its own."""
        # With the task, so that no other object can get its id while the notes exist.
        return self._notes_of.setdefault(id(task), (task, {}))[1]

    def variables(self, looked_at: dict[Path, bool] | None = None) -> Mapping[str, Any]:
        """Facts that a playbook's templates may use, as ``nb.NAME``.

        Args:
            looked_at: Takes up the paths that they are read from, and whether something was there.

        """
        from nbprovision.machine.variables import Variables

        return Variables(self, {} if looked_at is None else looked_at)
