"""Collects what the tasks of a playbook request in each environment, for a lock. Starts no process, fetches nothing."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import msgspec

from nbprovision.conda import health
from nbprovision.conda.lock_request import CondaLockRequest
from nbprovision.conda.specs import requested_specs
from nbprovision.engine.session import Catalogue, obeyed
from nbprovision.indexes import index_settings
from nbprovision.indexes.index_settings import IndexSettings
from nbprovision.indexes.lock_request import IndexLockRequest
from nbprovision.lock.index import Kind, Origin
from nbprovision.lock.places import Places
from nbprovision.machine import image
from nbprovision.machine.expansion import expanded
from nbprovision.machine.machine import Machine
from nbprovision.model.errors import InvalidPlaybook, ParameterError, Position, ProvisionError, UnknownEnvironment
from nbprovision.model.task import LockRequest, Task
from nbprovision.pip.install_settings import Options
from nbprovision.pip.lock_request import PipLockRequest
from nbprovision.pip.request import with_options
from nbprovision.pip.requirements_files import RequirementSet
from nbprovision.playbook.calls import Results, TaskCall
from nbprovision.playbook.read import read_playbook
from nbprovision.playbook.template import NotYetKnown, Unknown

_WHERE = "lock on a machine that has it: an environment of the platform's image on a notebook instance"
# A folder for environments of the image that only another machine has.
_ELSEWHERE = Path("/nbprovision-elsewhere")


class EnvironmentRequest(msgspec.Struct, frozen=True, kw_only=True):
    """What the playbook requests in one environment.

    Attributes:
        name: Its name in the lock.
        prefix: Its folder.
        kind: See `Origin`.
        specs: Match specs, sorted.
        channels: URLs, the preferred one first; they may contain passwords.
        pins: Pinned match specs of conda's configuration, sorted.
        cuda: The version of CUDA; None for none.
        wanted: The requirements of all pip tasks, with their options.
        settings: The indexes.
        declared: Those of them that the playbook sets; the others are a machine's own.
        environment: The environment whose Python counts.
        python: The Python that a virtual environment is created from: versions, or a path.
        version: The version of an interpreter outside of environments.
        provided: The environment of the image that it is, or is a copy of.
        image: What the image has there; None if that is another machine's.
        conda_allowed, pip_allowed: A task may change packages of the image.
        position, pip_position: Those of its first task, and of its first pip task.

    """

    name: str
    prefix: Path
    kind: Kind
    specs: tuple[str, ...] = ()
    channels: tuple[str, ...] = ()
    pins: tuple[str, ...] = ()
    cuda: str | None = None
    wanted: RequirementSet = RequirementSet()
    settings: IndexSettings = IndexSettings()
    declared: IndexSettings = IndexSettings()
    environment: Path = Path()
    python: str | None = None
    version: str | None = None
    provided: Path | None = None
    image: image.Content | None = None
    conda_allowed: bool = False
    pip_allowed: bool = False
    position: Position | None = None
    pip_position: Position | None = None

    @property
    def with_pip(self) -> bool:
        """Whether pip tasks request anything, by name or by a lock file of their own."""
        return bool(self.wanted.wanted or self.wanted.locks)

    def origin(self, places: Places) -> Origin:
        """The request as a lock keeps it."""
        entries = [entry for lock in self.wanted.locks for entry in lock.packages]
        requested = [entry.requirement for entry in self.wanted.wanted]
        requested += [f"{entry.requirement.line}; {entry.package.marker or ''}".removesuffix("; ") for entry in entries]
        return Origin(
            kind=self.kind,
            specs=tuple(sorted(map(places.text, self.specs))),
            channels=tuple(map(places.locked, self.channels)) if self.specs else (),
            pins=tuple(sorted(map(places.text, self.pins))) if self.specs else (),
            cuda=self.cuda,
            requirements=tuple(sorted(set(map(places.text, requested)))),
            constraints=tuple(sorted({places.text(entry.requirement) for entry in self.wanted.constraints})),
            indexes=tuple(_indexes(self.declared, places)) if self.with_pip else (),
            python=None if self.python is None else places.text(self.python),
            image=_digest(self.image) if self.image is not None else None,
        )


def _indexes(settings: IndexSettings, places: Places) -> Iterator[str]:
    if not settings.no_index:
        yield from map(places.locked, filter(None, (settings.index_url, *settings.extra_urls)))
    for place in settings.find_links:
        yield places.locked(place) if "://" in place else places.text(place)


def _digest(content: image.Content) -> str:
    return hashlib.sha256(msgspec.json.encode(content, order="sorted")).hexdigest()


class BoundTask(NamedTuple):
    """A task, and the machine with the variables that the playbook sets for it."""

    call: TaskCall
    task: Task[Any]
    machine: Machine


def collect(
    path: Path,
    machine: Machine,
    catalogue: Catalogue,
    extra_vars: Mapping[str, Any],
    *,
    images: Iterable[str] = (),
    kept: Mapping[Path, bytes] | None = None,
) -> list[EnvironmentRequest]:
    """Collect the requests of a playbook by environment, sorted by name.

    Conditions, loops and globs are evaluated for this machine.

    Args:
        path: The playbook.
        machine: The facts; declarations of the playbook are added, so that they can serve one playbook only.
        catalogue: Every kind of task.
        extra_vars: The variables of ``-e``.
        kept: Contents to read in place of the playbook's files.
        images: Environments of the image that an existing lock names; they need not exist on this machine.

    Raises:
        InvalidPlaybook: the playbook has faults, or cannot be locked.

    """
    tasks = bound_tasks(path, machine, catalogue, extra_vars, kept=kept)
    for entry in tasks:
        with _located(entry):
            machine.expect(entry.task.configures(entry.machine))
    for name in images:
        if machine.conda.prefix_of(name) is None:
            machine.declared.setdefault(name, _ELSEWHERE / name)
    requests: list[tuple[BoundTask, LockRequest]] = []
    for entry in tasks:
        with _located(entry):
            machine.declared.update(entry.task.declares(entry.machine))
            requests += [(entry, request) for request in entry.task.lock_requests(entry.machine)]
    return sorted(_Environments(machine, requests).all(), key=lambda request: request.name)


def bound_tasks(
    path: Path,
    machine: Machine,
    catalogue: Catalogue,
    extra_vars: Mapping[str, Any],
    *,
    kept: Mapping[Path, bytes] | None = None,
) -> list[BoundTask]:
    """The tasks of a playbook that are not skipped on this machine; see `collect`.

    Raises:
        InvalidPlaybook: the playbook has faults, or what a lock needs of it is known only in a run.

    """
    playbook = read_playbook(path, catalogue, extra_vars, machine.variables(), env=machine.env, judge=obeyed, kept=kept)
    calls = [call for play in playbook.plays for call in (*play.calls, *play.handlers) if call.chosen]
    results = {call.register: Unknown(call.title) for call in calls if call.register}
    return [bound for call in calls if (bound := _bound(call, results, machine)) is not None]


class _located:  # noqa: N801 - a context manager
    """Gives the errors of the body the position of a task, and advice on a missing environment."""

    def __init__(self, entry: BoundTask) -> None:
        self._entry = entry

    def __enter__(self) -> None:
        """Begin."""

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        """Complete an error."""
        if isinstance(error, UnknownEnvironment):
            error.cure = "\n".join(filter(None, (error.cure, _WHERE)))
        if isinstance(error, ProvisionError):
            error.at(self._entry.call.position)


def _bound(call: TaskCall, results: Results, machine: Machine) -> BoundTask | None:
    """The task of a call, None if it is skipped here; ``results`` are those that a run would have.

    Raises:
        InvalidPlaybook: the task is one that a lock needs, and its parameters are known only in a run.

    """
    task = call.task
    if task is None:
        if not call.late or call.written.kind.lock_requests is Task.lock_requests:
            return None
        try:
            task = call.bind(results)
        except NotYetKnown as error:
            raise InvalidPlaybook(
                f"'{call.title}' cannot be locked: {error.message}",
                cause="a lock is made before anything runs",
                cure="give the packages and the environment values that are known before the run",
                position=call.position,
            ) from None
    environment = dict(call.environment)
    return BoundTask(call, expanded(task), machine.seen_with(environment, applies=False) if environment else machine)


class _Only(dict[Path, "str | None"]):
    """The content of some files; all others are missing."""

    def __contains__(self, path: object) -> bool:
        """Whatever the path, it decides."""
        return True

    def __missing__(self, path: Path) -> None:
        """The content of any other file."""


class _Environments:
    """Joins the requests of all tasks by environment."""

    def __init__(self, machine: Machine, requests: Iterable[tuple[BoundTask, LockRequest]]) -> None:
        self._machine = machine
        self._conda: dict[Path, list[CondaLockRequest]] = {}
        self._pip: dict[Path, list[PipLockRequest]] = {}
        self._calls: dict[Path, TaskCall] = {}
        self._pip_calls: dict[Path, TaskCall] = {}
        self._machines: dict[Path, Machine] = {}  # with the variables of the first pip task
        self._files: dict[Path, str | None] = {}
        for entry, request in requests:
            if isinstance(request, IndexLockRequest):
                self._files.update(request.files)
                continue
            self._calls.setdefault(request.prefix, entry.call)
            if isinstance(request, CondaLockRequest):
                self._conda.setdefault(request.prefix, []).append(request)
            elif isinstance(request, PipLockRequest):
                self._pip.setdefault(request.prefix, []).append(request)
                self._pip_calls.setdefault(request.prefix, entry.call)
                self._machines.setdefault(request.prefix, entry.machine)

    def all(self) -> Iterator[EnvironmentRequest]:
        """Return one request for each environment.

        Raises:
            InvalidPlaybook: an environment cannot be locked, or two have the same name.

        """
        names: dict[str, Path] = {}
        for prefix in self._calls:
            try:
                request = self._joined(prefix)
            except ProvisionError as error:
                raise error.at(self._calls[prefix].position) from None
            if names.setdefault(request.name, prefix) != prefix:
                raise InvalidPlaybook(
                    f"two environments have the name {request.name}",
                    cause=f"they are {names[request.name]} and {prefix}",
                    cure="give one of them another name: a lock lists environments by name",
                    position=self._calls[prefix].position,
                )
            yield request

    def _joined(self, prefix: Path) -> EnvironmentRequest:
        conda = self._conda_of(prefix)
        pip = self._pip.get(prefix, [])
        kind, provided = self._kind(prefix, conda, pip)
        specs = sorted({text for request in conda for text in request.specs})
        requested_specs(specs)  # refuses two that exclude each other
        options = _joined_options(request.wanted.options for request in pip)
        cuda = next((request.cuda for request in conda if request.cuda is not None), None)
        environment = pip[0].environment if pip else prefix
        condarc = self._machine.conda.condarc
        machine = self._machines.get(prefix, self._machine)
        configured = index_settings.effective(
            machine.env, machine.user_home, environment, root=machine.root, instead=self._files
        )
        declared = index_settings.effective(
            machine.environment, machine.user_home, environment, root=machine.root, instead=_Only(self._files)
        )
        return EnvironmentRequest(
            name=self._name(prefix),
            prefix=prefix,
            kind=kind,
            specs=tuple(specs),
            channels=tuple(dict.fromkeys(url for request in conda for url in request.channels)),
            pins=tuple(sorted(health.pinned(_ELSEWHERE, condarc))),
            cuda=None if cuda == "none" else cuda,
            wanted=RequirementSet(
                wanted=tuple({entry.requirement: entry for request in pip for entry in request.wanted.wanted}.values()),
                constraints=tuple(entry for request in pip for entry in request.wanted.constraints),
                constraint_files=tuple(
                    dict.fromkeys(path for request in pip for path in request.wanted.constraint_files)
                ),
                options=options,
                locks=tuple({lock.path: lock for request in pip for lock in request.wanted.locks}.values()),
            ),
            settings=with_options(configured, options),
            declared=with_options(declared, options),
            environment=environment,
            python=next((request.python for request in pip if request.makes), None),
            version=next((request.version for request in pip if request.version is not None), None),
            provided=provided,
            image=self._content(provided),
            conda_allowed=any(request.allowed for request in conda),
            pip_allowed=any(request.allowed for request in pip),
            position=self._calls[prefix].position,
            pip_position=self._pip_calls[prefix].position if pip else None,
        )

    def _conda_of(self, prefix: Path) -> list[CondaLockRequest]:
        """The requests for an environment; those for the one that it is a copy of come first."""
        own = self._conda.get(prefix, [])
        sources = [request.source for request in own if request.source is not None]
        return [*(request for source in sources for request in self._conda_of(source) if source != prefix), *own]

    def _kind(
        self, prefix: Path, conda: Iterable[CondaLockRequest], pip: Iterable[PipLockRequest]
    ) -> tuple[Kind, Path | None]:
        """The kind of an environment, and the environment of the image that it is or is a copy of.

        Raises:
            InvalidPlaybook: nobody makes the environment.

        """
        if any(request.prefix == prefix and request.makes for request in conda):
            sources = [request.source for request in conda if request.source is not None]
            copied = [source for source in sources if not self._is_made(source)]
            for source in copied:
                if not self._is_provided(source):
                    raise _nobody_makes(source)
            return "conda", next(iter(copied), None)
        if any(request.makes for request in pip):
            return "virtual", None
        if any(request.outside for request in pip):
            raise InvalidPlaybook(
                f"packages in {prefix} cannot be locked",
                cause="they are for an interpreter of this machine, which is not in an environment",
                cure="install into an environment (ensure_venv, ensure_conda_env) or into a folder (`target`)",
            )
        if any(request.environment != prefix for request in pip):
            return "folder", None
        if self._is_provided(prefix):
            return "image", prefix
        raise _nobody_makes(prefix)

    def _is_made(self, prefix: Path) -> bool:
        return any(request.makes for request in self._conda.get(prefix, []))

    def _is_provided(self, prefix: Path) -> bool:
        return _ELSEWHERE in prefix.parents or image.baseline_of(self._machine, prefix) is not None

    def _content(self, provided: Path | None) -> image.Content | None:
        baseline = image.baseline_of(self._machine, provided) if provided is not None else None
        return None if baseline is None else baseline.content

    def _name(self, prefix: Path) -> str:
        declared = (name for name, place in self._machine.declared.items() if place == prefix)
        listed = (entry.name for entry in self._machine.conda.environments() if entry.prefix == prefix)
        return next(declared, next(listed, prefix.name))


def _nobody_makes(prefix: Path) -> InvalidPlaybook:
    return InvalidPlaybook(
        f"{prefix} cannot be locked",
        cause="no task of the playbook creates it, and the platform's image does not bring it",
        cure="create it by ensure_conda_env or ensure_venv",
    )


def _joined_options(every: Iterable[Options]) -> Options:
    """The options of all pip tasks on an environment together.

    Raises:
        ParameterError: two of them name different main indexes.

    """
    joined = Options()
    for number, options in enumerate(every):
        if number == 0:
            joined = options
            continue
        urls = {joined.index_url, options.index_url} - {None}
        if len(urls) > 1:
            raise ParameterError(
                "requirements",
                "two requirements files for the same environment name different indexes",
                cause="the packages of an environment are locked together",
                cure="name one of the indexes by --extra-index-url",
            )
        lists = ("extra_urls", "find_links", "trusted_hosts", "formats", "releases", "only_pip")
        flags = ("no_index", "require_hashes", "no_require_hashes", "prefer_binary")
        joined = msgspec.structs.replace(
            joined,
            index_url=next(iter(urls), None),
            **{name: tuple(dict.fromkeys((*getattr(joined, name), *getattr(options, name)))) for name in lists},
            **{name: getattr(joined, name) or getattr(options, name) for name in flags},
        )
    return joined
