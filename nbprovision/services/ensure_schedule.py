"""``ensure_schedule``: a command of the user's that runs again and again."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal

import msgspec

from nbprovision.files.file_work import check_text
from nbprovision.machine.machine import Machine
from nbprovision.model.errors import ParameterError
from nbprovision.model.relations import Needs, OneOf, Relation
from nbprovision.model.result import Change, Plan
from nbprovision.model.task import Duration, Setting, parameter, seconds
from nbprovision.report.activity import is_held
from nbprovision.root.schedule import SCRIPTS, script, unit
from nbprovision.services.calendar_event import CalendarEvent
from nbprovision.services.root_task import REPORT, RootTask, State
from nbprovision.services.schedule_record import Files
from nbprovision.system import inputs
from nbprovision.system.files import make_folder, read_text, remove, write_atomically

_NAME = re.compile(r"[a-z0-9][a-z0-9_-]{0,40}")
_ENV = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,100}|(?:~|)(?:/[^/\x00-\x1f\x7f]{1,200}){1,40}/?")
_VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,100}")
_SHORTEST, _LONGEST = "1m", "366d"
_HOW_TO_WRITE = "write argv: [PROGRAM, ARGUMENT, ...], or shell: COMMAND for a shell's syntax"
_WHEN = "write every: 8h, or at: daily, hourly, 08:30, Mon..Fri 08:30, *-*-01 02:00:00"
RUNNER = Path(__file__).with_name("schedule.sh")


class EnsureSchedule(RootTask[State], frozen=True, kw_only=True):
    """Run a command of the user's again and again, by a timer.

    On a notebook instance, root's part of the lifecycle script writes a timer and a service of systemd. The command
    runs as `ec2-user` in the home folder, with low priority, and never twice at the same time. The tool is on its PATH.
    The output goes to `schedules/NAME.log` in the tool's home. `nbprovision status` shows the last result and the next
    run. Write no secrets into it: all users of the machine can read the script.

    The time of `every` counts from the start of the machine. With `missed` it counts from the last run, and a run that
    was missed while the machine was off is made up for soon after its start. The first run of all then comes soon, too.

    Studio has no timers. There, the user's run starts a process that keeps the schedule. This process ends with the
    space, and the user can kill it. The next run of the playbook starts it again.

    A schedule that leaves the playbook ends with the next stop of the machine; `state: absent` ends it at once.
    """

    module: ClassVar[str] = "schedule"
    examples: ClassVar[str] = """
- name: The report of each working day
  ensure_schedule:
    name: report
    argv: [papermill, SageMaker/report.ipynb, SageMaker/out/report.ipynb]
    env: python3
    at: Mon..Fri 08:30
    timeout: 3h
    missed: true
- name: A copy of the notebooks every hour
  ensure_schedule:
    name: backup
    every: 1h
    shell: aws s3 sync --only-show-errors ~/SageMaker/notebooks "s3://$BUCKET/notebooks"
    environment: {BUCKET: team-bucket}
- name: No longer wanted
  ensure_schedule: {name: cleanup, state: absent}
"""
    actions: ClassVar[dict[str, str]] = {
        "write": "the schedule (in Studio)",
        "start": "the process that keeps it (in Studio)",
        "remove": "the schedule (in Studio)",
    }
    habits: ClassVar[dict[str, str]] = {
        **dict.fromkeys(("cmd", "job", "command"), _HOW_TO_WRITE),
        **dict.fromkeys(("minute", "hour", "day", "weekday", "month", "special_time", "cron", "calendar"), _WHEN),
        "user": "remove it; the command runs as the notebook's user",
        "chdir": "remove it; the command runs in the home folder: write shell: cd FOLDER && COMMAND",
        "persistent": "write missed: true",
    }
    relations: ClassVar[tuple[Relation, ...]] = (
        *(OneOf(pair, required=False) for pair in (("argv", "shell"), ("every", "at"))),
        *(Needs(key, ("state",), "present") for key in ("argv", "shell", "every", "at")),
    )

    name: Annotated[str, parameter("Its name: small letters, digits, `-` and `_`.")]
    argv: Annotated[list[str] | None, parameter("Program and arguments, as words that no shell reads.")] = None
    shell: Annotated[str | None, parameter("Text for `/bin/sh`, instead of `argv`; it may have several lines.")] = None
    every: Annotated[Duration | None, parameter("The time from one run to the next: `30m`, `8h`, `1d`.")] = None
    at: Annotated[
        str | None,
        parameter(
            "Times in the machine's time zone, as systemd writes them: `hourly`, `daily`, `weekly`, `monthly`, "
            "`08:30`, `Mon..Fri 08:30`, `*:00/15`, `*-*-01 02:00:00`."
        ),
    ] = None
    env: Annotated[
        str | None,
        parameter(
            "A conda or virtual environment, by absolute path (also `~/...`) or by name; the command runs in it as "
            "after activation. Each run searches for it, in `~/SageMaker/envs`, the tool's home, `~/.conda/envs` and "
            "the image's conda."
        ),
    ] = None
    environment: Annotated[
        dict[str, str | int | float], parameter("Additional environment variables for the command; no secrets.")
    ] = msgspec.field(default_factory=dict)
    timeout: Annotated[Duration, parameter("Time after which a run is ended: `90s`, `30m`, `12h`.")] = "1h"
    missed: Annotated[bool, parameter("Make up for a run that was missed while the machine was off.")] = False
    state: Annotated[Literal["present", "absent"], parameter("`absent` ends the schedule and removes it.")] = "present"

    def check(self) -> None:
        """Check the parameters; what is not a command becomes part of files that root obeys."""
        if not _NAME.fullmatch(self.name):
            raise ParameterError(
                "name", f"{self.name!r} is not a name for a schedule", cure="small letters, digits, - and _: report"
            )
        check_text(self, "argv", "shell", "environment")
        self._check_command()
        self._check_times()
        if self.env is not None and (not _ENV.fullmatch(self.env) or ".." in self.env.split("/")):
            raise ParameterError(
                "env",
                f"{self.env[:80]!r} is neither a name nor an absolute path",
                cure="python3, or ~/SageMaker/envs/x",
            )
        for variable in self.environment:
            if not _VARIABLE.fullmatch(variable):
                raise ParameterError("environment", f"{variable!r} cannot be a variable of a command")

    def _check_command(self) -> None:
        if self.state == "present" and self.argv is None and self.shell is None:
            raise ParameterError("argv", "argv or shell is required", cure=_HOW_TO_WRITE)
        if self.argv is not None and not (self.argv and self.argv[0].strip()):
            raise ParameterError("argv", "'argv' names no program")
        if self.argv is not None and (self.argv[0].startswith(("~", "-")) or "=" in self.argv[0]):
            raise ParameterError(
                "argv", f"{self.argv[0][:80]!r} is not a program", cure="write shell: for ~/ and for variables"
            )
        if self.shell is not None and not self.shell.strip():
            raise ParameterError("shell", "'shell' is empty")

    def _check_times(self) -> None:
        if self.state == "present" and self.every is None and self.at is None:
            raise ParameterError("every", "every or at is required", cure=_WHEN)
        if self.every is not None and not seconds(_SHORTEST) <= seconds(self.every) <= seconds(_LONGEST):
            raise ParameterError("every", f"{self.every} is not between {_SHORTEST} and {_LONGEST}")
        if not 1 <= seconds(self.timeout) <= seconds("7d"):
            raise ParameterError("timeout", f"{self.timeout} is not between 1s and 7d")
        if self.at is not None:
            try:
                CalendarEvent.parse(self.at)
            except ValueError as error:
                raise ParameterError("at", str(error), cure=_WHEN) from None

    @property
    def subject(self) -> str:
        """What it is about, in a message."""
        return f"the schedule {self.name}"

    @property
    def limit(self) -> float:
        """Seconds for root's work: a running command may have to be stopped."""
        return 60.0

    def wanted(self) -> Mapping[str, Any]:
        """What root's program gets; see `nbprovision.root.schedule`."""
        return {
            "name": self.name,
            "state": self.state,
            "every": 0 if self.every is None else int(seconds(self.every)),
            "at": self.at or "",
            "missed": self.missed,
            "words": ["/bin/sh", "-c", self.shell] if self.shell is not None else list(self.argv or ()),
            "env": self.env or "",
            "environment": {name: str(value) for name, value in sorted(self.environment.items())},
            "limit": int(seconds(self.timeout)),
        }

    def wanted_of(self, machine: Machine) -> Mapping[str, Any]:
        """The same on a machine: with the tool's home folder there."""
        return {**self.wanted(), "home": str(machine.home)}

    def shared_values(self, machine: Machine) -> Iterable[Setting]:
        """The whole schedule: two tasks cannot describe it differently."""
        yield Setting(f"{SCRIPTS}{self.name}", (), repr(sorted(self.wanted().items())))

    # ------------------------------------------------------------------------------ where the user's run does the work

    def of_users(self, machine: Machine) -> bool:
        """Whether the user's run does the work: Studio has no systemd."""
        return machine.platform.kind in ("studio", "studio-lab")

    def read(self, machine: Machine) -> State:
        """Compare; in Studio, with the script and the keeper."""
        if not self.of_users(machine):
            return State(self.compared(machine))
        inputs.start_of_machine()  # no process survives it
        files = Files.of(machine.home, self.name)
        written = read_text(files.script)
        if self.state == "absent":
            return State(("remove",) * (written is not None))
        wrong = ("write",) * (written != self._script(machine))
        return State((*wrong, *("start",) * (not is_held(files.keeper))))

    def plan(self, state: State) -> Plan:
        """One change for each difference."""
        return Plan(changes=tuple(Change(action=what, target=self.subject) for what in state.differences), beside=True)

    def apply(self, plan: Any, machine: Machine) -> None:
        """Write the script and start the keeper, or remove the script and wait for the keeper's end.

        Raises:
            TaskFailed: the keeper cannot be started.

        """
        from nbprovision.services.schedule_keeper import start_keeper, stop_keeper

        files = Files.of(machine.home, self.name)
        if self.state == "absent":
            remove(files.script)
            stop_keeper(machine.home, self.name)
            return
        make_folder(files.script.parent, mode=0o700)
        write_atomically(files.script, self._script(machine), mode=0o600)
        start_keeper(machine.home, self.name, machine.env)

    def _script(self, machine: Machine) -> str:
        return script(dict(self.wanted_of(machine)), shlex.quote(str(RUNNER)))

    def witnesses(self, machine: Machine) -> Iterable[Path]:
        """The files of the schedule; on a notebook instance root's report of this start, too."""
        if self.of_users(machine):
            return [Files.of(machine.home, self.name).script]
        units = machine.root / "etc/systemd/system"
        name = unit(dict(self.wanted()))
        return [
            machine.root / str(REPORT)[1:],
            machine.root / SCRIPTS[1:] / self.name,
            *(units / f"{name}.{ending}" for ending in ("service", "timer")),
            units / "timers.target.wants" / f"{name}.timer",
        ]

    def ages(self, machine: Machine) -> float | None:
        """Five minutes in Studio: no file shows that somebody has ended the keeper."""
        return 300.0 if self.of_users(machine) else None
