"""The report of an instance in a ring, and the variables by which bootstrap.sh describes the start to the run.

The run writes ``instance-report.json`` into the tool's home: first as work that goes on, so that a kill shows, then
with its result. A run that ends at its witnesses writes the same by `state.witness`. bootstrap.sh uploads the file;
after work in the background, `engine.background` does.

The digest of the last release that ended with 0 is in ``lifecycle/release.good``, which bootstrap.sh reads, and writes
as well.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import msgspec

from nbprovision import __version__
from nbprovision.model.errors import InvalidPlaybook, ProvisionError, TaskFailed
from nbprovision.model.result import Result
from nbprovision.report.activity import one_line
from nbprovision.report.instance_report import LARGEST, Failure, InstanceReport
from nbprovision.system.files import write_atomically
from nbprovision.system.reading import decode, read_bytes, read_end
from nbprovision.system.secrets import mask

FILE = "instance-report.json"
GOOD = "lifecycle/release.good"
_PLACE = "lifecycle/release"  # the beginning of the path of a release's playbook, in the tool's home
_VARIABLES = (
    "NBPROVISION_RING", "NBPROVISION_INSTANCE", "NBPROVISION_WANTED", "NBPROVISION_RELEASE", "NBPROVISION_WHY",
    "NBPROVISION_PROVEN",
)  # fmt: skip
_IN_PROGRESS = 7
_MOST = 50  # failures, and tasks that have drifted
_LONGEST = 2000  # characters of a text
_LOG = 8000  # bytes


class RingStart(msgspec.Struct, frozen=True):
    """A start of an instance in a ring.

    Attributes:
        pointer: The URL of the ring's pointer, ``s3://BUCKET/PREFIX/rings/RING``.
        instance: The name of the instance. No report is written if it is empty.
        wanted: The release that the ring points to; empty if that is unknown.
        release: The release that runs; empty if there is none.
        why: The reason why that is another one, or that another version of the tool runs it; empty otherwise.
        proven: This release is the one that ran at the last start, and it succeeded then.

    """

    pointer: str
    instance: str
    wanted: str
    release: str
    why: str
    proven: bool

    @classmethod
    def of(cls, env: Mapping[str, str]) -> RingStart | None:
        """Read it from the variables that bootstrap.sh sets; None outside a ring."""
        pointer, instance, wanted, release, why, proven = (env.get(name, "") for name in _VARIABLES)
        return cls(pointer, instance, wanted, release, why, proven == "1") if pointer and instance else None

    @property
    def url(self) -> str:
        """The place of the report in the bucket."""
        return f"{self.pointer.rpartition('/rings/')[0]}/reports/{self.instance}.json"


class RingReport:
    """Writes the report of a run. Nothing is written for a playbook that is not the release's, such as the user's own.

    Args:
        home: The tool's home folder.
        playbook: The playbook of the run.
        check: The run only checks, and writes nothing.

    """

    def __init__(self, home: Path, playbook: str | Path, *, check: bool = False) -> None:
        start = None if check else RingStart.of(os.environ)
        own = os.path.abspath(playbook).startswith(f"{os.path.abspath(home)}/{_PLACE}")
        self._start = start if own else None
        self._home = home
        self._began = time.time()

    def begin(self) -> None:
        """Report that the work goes on."""
        self._write(_IN_PROGRESS)

    def end(self, status: int, content: Mapping[str, Any], results: Iterable[Result] = ()) -> None:
        """Report the result.

        Args:
            status: The exit status.
            content: The document of the run.
            results: The results of its tasks, to find what has failed and drifted.

        """
        results = list(results)
        drift = [result.name for result in results if result.changed and result.lasting]
        failures = [_failure(result.name, result.error) for result in results if result.failed and result.error]
        self._write(status, content["counts"], drift, failures, content["seconds"])

    def fail(self, status: int, error: BaseException) -> None:
        """Report an error that ended the run."""
        if isinstance(error, ProvisionError):
            failure = _failure("", error)
        else:
            failure = Failure("", _short(f"{type(error).__name__}: {error}"))
        self._write(status, failures=[failure], seconds=time.time() - self._began)

    def _write(
        self,
        status: int,
        counts: Mapping[str, int] | None = None,
        drift: Sequence[str] = (),
        failures: Sequence[Failure] = (),
        seconds: float = 0.0,
    ) -> None:
        start = self._start
        if start is None:
            return
        if status == 0 and start.release and not start.why:
            _keep(self._home / GOOD, f"{start.release}\n")
        if start.why and status != _IN_PROGRESS:  # as bootstrap.sh ends
            status = InvalidPlaybook.exit_status
        report = InstanceReport(
            instance=start.instance,
            ring=start.pointer.rpartition("/")[2],
            wanted=start.wanted or None,
            release=start.release or None,
            fallback=_short(start.why),
            tool=__version__,
            time=round(time.time(), 3),
            status=status,
            seconds=round(seconds, 4),
            counts=dict(counts or {}),
            drift=tuple(map(_short, drift[:_MOST])) if start.proven else (),
            failures=tuple(failures[:_MOST]),
            log=self._log() if status not in (0, _IN_PROGRESS) else "",
        )
        _keep(self._home / FILE, msgspec.json.encode(report).decode() + "\n")

    def _log(self) -> str:
        """The last lines of the log that are of this run."""
        since = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(self._began))
        try:
            lines = read_end(self._home / "log" / "nbprovision.log", _LOG).decode("utf-8", "replace").splitlines()
        except OSError:
            return ""
        return mask("\n".join(line for line in lines if _time_of(line) >= since))


class _Line(msgspec.Struct):
    timestamp: str


def _time_of(line: str) -> str:
    """The time of an entry of the log; empty for one that is cut off."""
    try:
        return decode(msgspec.json.Decoder(_Line), line.encode()).timestamp
    except msgspec.DecodeError:
        return ""


def read(home: Path) -> InstanceReport | None:
    """The report in the tool's home; None if it is missing, or not valid."""
    try:
        content = read_bytes(home / FILE, most=LARGEST, follow=False)
        return decode(msgspec.json.Decoder(InstanceReport), content)
    except (OSError, msgspec.DecodeError):
        return None


def upload_command(home: Path) -> list[str]:
    """The command that uploads the report; empty outside a ring, or without the `aws` command."""
    import shutil  # a start with nothing to do but to put files back does without it

    start = RingStart.of(os.environ)
    program = shutil.which("aws") or shutil.which("aws", path=os.path.expanduser("~/anaconda3/bin"))
    if start is None or program is None or not (home / FILE).is_file():
        return []
    timeouts = ["--cli-connect-timeout", "5", "--cli-read-timeout", "20"]
    return [program, *timeouts, "s3", "cp", "--only-show-errors", str(home / FILE), start.url]


def _failure(task: str, error: ProvisionError) -> Failure:
    where = f"{error.position}: " if error.position is not None else ""
    why = f"{where}{error.message}: {error.cause}" if error.cause else f"{where}{error.message}"
    return Failure(_short(task), _short(why), _short(error.cure))


def _short(text: str) -> str:
    return one_line(text, _LONGEST)


def _keep(path: Path, text: str) -> None:
    try:
        write_atomically(path, text, mode=0o600, durable=False)
    except TaskFailed:  # a full or read-only disk does not stop the work
        return
