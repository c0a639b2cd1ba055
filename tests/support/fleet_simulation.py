"""A fleet of simulated notebook instances in moto, with faults: the commands of publishers are the real ones.

An instance is a small record that behaves as ``bootstrap.sh`` with a ring does: at each start it reads the pointer,
gets the release unless it has it, compares the digest, runs it or else the last good one, and uploads a report. The
record writes no file and runs no playbook: the file ``motd`` of a release says how the run ends. The tests of
``bootstrap.sh`` show that the real one behaves so.

What is patched, beside `sagemaker_states`:

- the clock of moto, so that hours pass at once, and those of publishers, which may be days wrong;
- botocore's way to the service, for throttling: a request over the rate gets ThrottlingException with status 400 from
  SageMaker, SlowDown with status 503 from S3. For boto3's waits and the rate, time runs faster by a factor;
- botocore's calls: they are counted, and a publisher is killed, or meets another one, at a chosen call.

``python -m tests.support.fleet_simulation`` is the story that ``benchmarks/fleet.py`` measures, of 1,000 instances.
"""

from __future__ import annotations

import contextlib
import email.utils
import functools
import hashlib
import io
import json
import os
import random
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any, Literal, NamedTuple
from unittest import mock

import boto3
import botocore.awsrequest
import botocore.client
import botocore.handlers
import botocore.retries.bucket
import moto.core.responses
import moto.core.utils
import moto.s3.models
import msgspec
from botocore.exceptions import ClientError
from moto.moto_api import state_manager
from moto.sagemaker.models import sagemaker_backends

from nbprovision.cli import main
from nbprovision.fleet import cloud, moves, pointer, publish
from nbprovision.report.instance_report import LARGEST, Failure, InstanceReport
from tests.support import boto_descriptions, sagemaker_states

ACCOUNT = "123456789012"  # moto's
REGION = "us-east-1"
BUCKET = "acme-notebooks"
PREFIX = "fraud/"
RINGS = ("canary", "early", "stable")
FLEET = """\
fleet: fraud
bucket: s3://acme-notebooks/fraud
playbook: team.yml
rings:
  - {name: canary, share: 5%, soak: 2h, need: 2}
  - {name: early, share: 10%, soak: 1h, need: 3}
  - {name: stable}
stop_when: {failed: 1, silent: 30m}
"""
PLAYBOOK = "- tasks:\n    - ensure_file: {path: ~/motd, src: motd}\n"
HOUR = 3600.0

Upload = Literal["whole", "missing", "cut", "rubbish", "large", "future", "another name", "another ring"]
FAULTS: tuple[Upload, ...] = ("missing", "cut", "rubbish", "large", "future", "another name", "another ring")
_REFUSED: tuple[Upload, ...] = ("cut", "rubbish", "large", "future", "another name")  # `status` counts them as broken


class Killed(BaseException):
    """The publisher's process ends here."""


class Outcome(NamedTuple):
    """A command: its exit status, its document (None without one), what it printed for people, and its calls."""

    status: int
    document: Any
    text: str
    calls: Counter[str]


class Instance(msgspec.Struct, kw_only=True):
    """A notebook instance.

    Attributes:
        name: Its name.
        ring: The ring of its script.
        skew: The seconds by which its clock is wrong.
        releases: The releases on its volume.
        good: The last release that ended with 0; empty without one.
        runs: The release of the last start; empty if none was run.
        uploaded: The kind of the last report that reached the bucket; None before the first.
        report: The last report that it wrote.
        waiting: The report is still to be uploaded: the next try may be later.
    """

    name: str
    ring: str
    skew: float = 0
    releases: set[str] = msgspec.field(default_factory=set)
    good: str = ""
    runs: str = ""
    uploaded: Upload | None = None
    report: InstanceReport | None = None
    waiting: bool = False


class Clock:
    """AWS's clock, which a test puts forward."""

    def __init__(self) -> None:
        self._passed = 0.0
        self._utcnow = moto.core.utils.utcnow

    def now(self) -> float:
        return time.time() + self._passed

    def utcnow(self) -> datetime:
        return self._utcnow() + timedelta(seconds=self._passed)

    def pass_by(self, seconds: float) -> None:
        self._passed += seconds


class _Wrong(NamedTuple):
    """The clock of a publisher, in the place of the module `time`."""

    clock: Clock
    skew: float

    def time(self) -> float:
        return self.clock.now() + self.skew


class Publisher:
    """Somebody with a folder of their own, and the commands of a fleet."""

    def __init__(self, world: World, folder: Path, skew: float = 0) -> None:
        self._world = world
        self._skew = skew
        self._home = folder / "nbprovision"
        self.file = folder / "fleet.yml"
        folder.mkdir()
        self.file.write_text(FLEET)
        (folder / "team.yml").write_text(PLAYBOOK)
        self.write("good: the first one")

    def write(self, text: str) -> None:
        """Change what the release brings; an instance's run of it ends as the first word says: good, fails, invalid."""
        (self.file.parent / "motd").write_text(text)

    def run(self, action: str, *words: str) -> Outcome:
        """Run a command to its end."""
        world = self._world
        before = world.calls.copy()
        out, err = io.StringIO(), io.StringIO()
        argv = ["fleet", action, "-f", str(self.file), "--home", str(self._home), "--format", "json", *words]
        wrong = _Wrong(world.clock, self._skew)
        with (
            contextlib.redirect_stdout(out),
            contextlib.redirect_stderr(err),
            mock.patch.object(cloud, "time", wrong),
            mock.patch.object(publish, "time", wrong),
            mock.patch.object(moves, "time", wrong),
        ):
            status = main(argv)
        assert status in (0, 2), err.getvalue()
        document = json.loads(out.getvalue()) if out.getvalue() else None
        return Outcome(status, document, err.getvalue(), world.calls - before)


class World:
    """An account with a bucket, instances, and a log of what publishers have done. `simulated` makes one.

    Attributes:
        clock: AWS's clock.
        calls: Publishers' calls by operation.
        instances: The instances by name.
        history: The releases that each ring has pointed to.
        published: The releases that were ever uploaded whole.
        at_call: Called with the number of each of the publishers' calls since it was set, before the call.
        network: The bucket can be reached by instances.
    """

    def __init__(self, folder: Path, seed: int = 0) -> None:
        self.random = random.Random(seed)
        self.clock = Clock()
        self.calls: Counter[str] = Counter()
        self.instances: dict[str, Instance] = {}
        self.history: dict[str, list[str]] = {ring: [] for ring in RINGS}
        self.published: set[str] = set()
        self.at_call: Callable[[int], object] | None = None
        self.network = True
        self._folder = folder
        self._numbers = iter(range(1_000_000))
        self._count = 0
        self._lock = threading.Lock()
        self._outcomes: dict[str, str] = {}

    def begin(self) -> None:
        self.s3 = boto3.client("s3", region_name=REGION)
        self.sagemaker = boto3.client("sagemaker", region_name=REGION)
        self.s3.create_bucket(Bucket=BUCKET)

    def publisher(self, skew: float = 0) -> Publisher:
        return Publisher(self, self._folder / f"publisher{next(self._numbers)}", skew)

    # ---- publishers' calls

    def called(self, client: Any, operation: str, parameters: dict[str, Any], call: Callable[..., Any]) -> Any:
        """Carry out a call, and keep what it changed."""
        if "nbprovision/" not in (client.meta.config.user_agent_extra or ""):
            return call(client, operation, parameters)
        with self._lock:
            self.calls[operation] += 1
            self._count += 1
        if self.at_call is not None:
            self.at_call(self._count)
        body = parameters.get("Body", b"")  # botocore replaces it
        answer = call(client, operation, parameters)
        # moto's S3 leaves it out: https://docs.aws.amazon.com/AmazonS3/latest/API/RESTCommonResponseHeaders.html
        date = email.utils.formatdate(self.clock.now(), usegmt=True)
        answer["ResponseMetadata"]["HTTPHeaders"]["date"] = date
        key = str(parameters.get("Key", "")).removeprefix(PREFIX)
        if operation == "PutObject" and key.startswith("rings/"):
            self.history[key.removeprefix("rings/")].append(pointer.parse(body).release)
        if operation == "PutObject" and key.startswith("releases/"):
            self.published.add(key.split("/")[1])
        return answer

    @contextlib.contextmanager
    def at(self, number: int, act: Callable[[], object]) -> Iterator[None]:
        """Do something else before the publishers' call of this number, in the body."""

        def due(count: int) -> None:
            if count == number:
                self.at_call = None
                act()

        self._count, self.at_call = 0, due
        try:
            yield
        finally:
            self.at_call = None

    # ---- instances

    def add(self, count: int) -> None:
        """Create instances in the rings, by the same part of the names as in the fleet file; they do not run yet."""
        for number in range(count):
            name = f"n{len(self.instances):04}"
            ring = RINGS[0] if number % 20 == 0 else RINGS[1] if number % 10 == 1 else RINGS[2]
            skew = self.random.choice((0, 0, 0, -1, 1, 300, -86_400 * 3))
            self.sagemaker.create_notebook_instance(
                NotebookInstanceName=name,
                InstanceType="ml.t3.medium",
                RoleArn=f"arn:aws:iam::{ACCOUNT}:role/notebook",
                LifecycleConfigName=f"fraud-{ring}-r1",
            )
            _platform(name).enter("Stopped")
            self.instances[name] = Instance(name=name, ring=ring, skew=skew)

    def of(self, ring: str) -> list[Instance]:
        return [each for each in self.instances.values() if each.ring == ring]

    def status_of(self, each: Instance) -> str:
        return str(_platform(each.name).status)

    def stop(self, each: Instance) -> None:
        _platform(each.name).enter("Stopped")

    def break_script(self, each: Instance) -> None:
        """SageMaker cannot start it."""
        _platform(each.name).enter("Failed")

    def start(self, each: Instance, upload: Upload = "whole", *, drift: bool = False, background: bool = False) -> None:
        """Start an instance, or start it again; the report of a run in the background is `upload`ed at its end."""
        _platform(each.name).enter("InService")
        wanted, why = self._pointer(each.ring)
        release = ""
        if wanted is not None:
            release, why = (wanted, "") if wanted in each.releases else self._fetched(each, wanted)
        if release and self._outcomes[release] == "invalid":
            release, why = "", f"the playbook of release {release[:12]} is invalid"
        release = release or each.good
        fails = bool(release) and self._outcomes[release] == "fails"
        each.runs = release
        if release and not fails and not why:
            each.good = release
        each.report = InstanceReport(
            instance=each.name,
            ring=each.ring,
            wanted=wanted,
            release=release or None,
            fallback=why,
            tool="0.1.0",
            time=self.clock.now() + each.skew,
            status=4 if why or not release else 2 if fails else 0,
            seconds=1.5,
            counts={"ok": 3},
            drift=("ensure_file: ~/motd",) if drift else (),
            failures=(Failure("ensure_file: ~/motd", "no space is left"),) if fails else (),
        )
        each.waiting = True
        if background:
            ended = each.report
            each.report = msgspec.structs.replace(ended, status=7, failures=(), counts={})
            self.upload(each, upload)
            each.report, each.waiting = ended, True
            return
        self.upload(each, upload)

    def upload(self, each: Instance, kind: Upload = "whole") -> None:
        """Try to upload the last report of an instance, or what stands for it."""
        if kind == "missing" or not self.network or each.report is None:
            return
        report = each.report
        if kind == "future":
            report = msgspec.structs.replace(report, time=self.clock.now() + 86_400)
        if kind == "another name":
            report = msgspec.structs.replace(report, instance=f"{each.name}x")
        if kind == "another ring":
            report = msgspec.structs.replace(report, ring="none")
        content = msgspec.json.encode(report)
        contents = {"cut": content[:-20], "rubbish": b"\xff<html>", "large": content.ljust(LARGEST + 1)}
        self.s3.put_object(Bucket=BUCKET, Key=f"{PREFIX}reports/{each.name}.json", Body=contents.get(kind, content))
        each.uploaded, each.waiting = kind, kind != "whole"

    def _pointer(self, ring: str) -> tuple[str | None, str]:
        content = self._get(f"rings/{ring}")
        if content is None:
            return None, "cannot fetch the pointer"
        try:
            return pointer.parse(content).release, ""
        except ValueError:
            return None, "the pointer is not valid"

    def _fetched(self, each: Instance, digest: str) -> tuple[str, str]:
        content = self._get(f"releases/{digest}/release.tar")
        if content is None:
            return "", "cannot fetch the release"
        if hashlib.sha256(content).hexdigest() != digest:
            return "", "the release is altered"
        self._outcomes.setdefault(
            digest, next(word for word in ("fails", "invalid", "good") if word.encode() in content)
        )
        each.releases.add(digest)
        return digest, ""

    def _get(self, name: str) -> bytes | None:
        if not self.network:
            return None
        try:
            return bytes(self.s3.get_object(Bucket=BUCKET, Key=PREFIX + name)["Body"].read())
        except ClientError:
            return None

    def alter(self, digest: str) -> None:
        """Somebody changes a release in the bucket."""
        key = f"{PREFIX}releases/{digest}/release.tar"
        self.s3.put_object(Bucket=BUCKET, Key=key, Body=(self._get(key.removeprefix(PREFIX)) or b"") + b"x")

    def pointer(self, ring: str) -> pointer.Pointer | None:
        content = self._get(f"rings/{ring}")
        return None if content is None else pointer.parse(content)

    # ---- what must always hold

    def check(self) -> None:
        """Require what holds after every step, whatever fails.

        Raises:
            AssertionError: it does not.
        """
        for each in self.instances.values():
            assert not each.runs or each.runs in self.history[each.ring], f"{each.name} runs an unknown release"
            assert not each.runs or each.runs in self.published, f"{each.name} runs a release that was never whole"
        for ring in RINGS:
            at = self.pointer(ring)
            assert (at.release if at else None) == next(reversed(self.history[ring]), None)
            for digest in (at.release, *at.before) if at else ():
                content = self._get(f"releases/{digest}/release.tar")
                assert content is not None, f"{ring} names a release that is not in the bucket"
                assert hashlib.sha256(content).hexdigest() == digest

    def check_status(self, document: Any) -> None:
        """Require that `fleet status` shows what the instances have reported, each once, and nothing else.

        Raises:
            AssertionError: it does not.
        """
        shown = {each["name"]: each for each in document["instances"]}
        assert len(shown) == len(document["instances"])
        assert shown.keys() == self.instances.keys()
        states = ("ok", "failed", "silent", "starting", "stopped")
        for row in document["rings"]:
            members = [shown[each.name] for each in self.of(row["ring"])]
            assert row["instances"] == len(members) == sum(row[state] for state in states)
            assert all(row[state] == sum(each["state"] == state for each in members) for state in states)
            assert row["broken"] == sum(bool(each["broken"]) for each in members)
        for name, each in self.instances.items():
            line = shown[name]
            assert bool(line["broken"]) == (each.uploaded in _REFUSED), f"{name}: {each.uploaded}: {line}"
            if each.uploaded == "whole" and not each.waiting:
                assert each.report is not None
                assert line["release"] == each.report.release, f"the report of {name} is lost"
                at = self.pointer(each.ring)
                fails = at is not None and each.report.status == 2 and each.report.release == at.release
                assert not fails or line["state"] == "failed"


def rollout(world: World, publisher: Publisher, count: int) -> None:
    """Publish the first release, create instances, and let it go through all rings."""
    assert publisher.run("publish").status == 0
    world.add(count)
    for ring in RINGS:
        if ring != RINGS[0]:
            promoted = publisher.run("promote")
            assert promoted.status == 0, promoted.text
        for each in world.of(ring):
            world.start(each)
        world.clock.pass_by(2 * HOUR + 1)


@contextlib.contextmanager
def throttled(world: World, rate: float, *, factor: float = 1) -> Iterator[Counter[str]]:
    """Let AWS refuse publishers' requests over a rate, in requests a second of a time that runs faster by ``factor``.

    Yields:
        The number of refused requests by service.
    """
    refused: Counter[str] = Counter()
    lock = threading.Lock()
    tokens, last = rate, time.monotonic()

    def throttle(request: Any, event_name: str = "", **fields: Any) -> Any:
        nonlocal tokens, last
        agent = request.headers.get("User-Agent", b"")
        if b"nbprovision/" not in (agent if isinstance(agent, bytes) else agent.encode()):
            return None
        with lock:
            now = time.monotonic()
            tokens, last = min(rate, tokens + (now - last) * rate * factor), now
            service = event_name.split(".")[1]
            if tokens >= 1 and refused[service]:  # a slow machine may stay below the rate, so the first one is refused
                tokens -= 1
                return None
            refused[service] += 1
        if service == "s3":
            status, kind = 503, "application/xml"
            body = "<Error><Code>SlowDown</Code><Message>Please reduce your request rate.</Message></Error>"
        else:
            status, kind = 400, "application/x-amz-json-1.1"
            body = json.dumps({"__type": "ThrottlingException", "message": "Rate exceeded"})
        answer = botocore.awsrequest.AWSResponse(request.url, status, {"content-type": kind}, None)
        answer._content = body.encode()
        return answer

    sleep = time.sleep
    fast = mock.Mock(wraps=time, sleep=lambda seconds: sleep(seconds / factor))

    class Fast(botocore.retries.bucket.Clock):  # type: ignore[misc] # botocore has no types
        def sleep(self, seconds: float) -> None:
            sleep(seconds / factor)

        def current_time(self) -> float:
            return time.time() * factor

    class Condition(threading.Condition):
        def wait(self, timeout: float | None = None) -> bool:
            return super().wait(None if timeout is None else timeout / factor)

    with (
        mock.patch.object(
            botocore.handlers, "BUILTIN_HANDLERS", [("before-send", throttle), *botocore.handlers.BUILTIN_HANDLERS]
        ),
        mock.patch.object(botocore.retries.bucket, "Clock", Fast),
        mock.patch("botocore.endpoint.time", fast),
        mock.patch("botocore.retries.bucket.threading", mock.Mock(wraps=threading, Condition=Condition)),
    ):
        yield refused


@contextlib.contextmanager
def simulated(folder: Path, seed: int = 0) -> Iterator[World]:
    """An account with nothing in it, and nothing of this machine's own configuration."""
    world = World(folder, seed)
    original = botocore.client.BaseClient._make_api_call

    def call(client: Any, operation: str, parameters: dict[str, Any]) -> Any:
        return world.called(client, operation, parameters, original)

    home = folder / "home"
    home.mkdir()
    unset = {name: value for name, value in os.environ.items() if not name.startswith("AWS_")}
    env = {"HOME": str(home), "AWS_DEFAULT_REGION": REGION, "AWS_EC2_METADATA_DISABLED": "true"}
    with contextlib.ExitStack() as patches:
        patches.enter_context(mock.patch.dict(os.environ, unset | env, clear=True))
        patches.enter_context(sagemaker_states.mocked())
        patches.enter_context(boto_descriptions.kept())
        for owner in (moto.core.utils, moto.core.responses, moto.s3.models, sagemaker_states):
            patches.enter_context(mock.patch.object(owner, "utcnow", world.clock.utcnow))
        patches.enter_context(mock.patch.object(publish, "own_wheel", _wheel))
        patches.enter_context(mock.patch.object(botocore.client.BaseClient, "_make_api_call", call))
        state_manager.set_transition(sagemaker_states.STATES, {"progression": "immediate"})
        world.begin()
        yield world


def _platform(name: str) -> Any:
    """The instance as moto has it: its owner starts and stops it in the console."""
    return sagemaker_backends[ACCOUNT][REGION].notebook_instances[name]


@functools.cache
def _wheel() -> tuple[str, bytes]:
    """Stand for the tool's own wheel, which takes a while to compress; no simulated instance installs it."""
    return "nbprovision-0.1.0-py3-none-any.whl", b"a wheel"


def story(folder: Path, count: int) -> Iterator[str]:
    """Tell of a release that reaches all instances and of a bad one that does not, with the calls of each command.

    Raises:
        AssertionError: a promise does not hold.
    """
    with simulated(folder) as world:
        publisher = world.publisher()
        rollout(world, publisher, count)
        publisher.run("status")
        calm = publisher.run("status")
        world.check_status(calm.document)
        yield f"status of {count:,} instances with nothing new: {calm.calls.total()} calls"
        publisher.write("fails: on every instance")
        published = publisher.run("publish")
        yield f"publish: {published.calls.total()} calls, of which {published.calls['PutObject']} are writes"
        for each in world.instances.values():
            world.start(each)
        world.clock.pass_by(3 * HOUR)
        refused = publisher.run("promote")
        bad = world.history["canary"][-1]
        reached = Counter(each.ring for each in world.instances.values() if each.runs == bad)
        assert refused.status == 2
        assert set(reached) == {"canary"}
        yield f"bad release: {reached['canary']} instances, all of the first ring; promote is refused"
        back = publisher.run("back")
        for each in world.of("canary"):
            world.start(each)
        assert all(each.runs != bad for each in world.instances.values())
        yield f"back: {back.calls['PutObject']} write"
        with throttled(world, 10) as throttles:
            calm = publisher.run("status")
        world.check()
        world.check_status(calm.document)
        refusals = throttles.total()
        yield f"status under 10 requests a second: {len(calm.document['instances']):,} reports, {refusals} throttled, 0 lost"


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as temporary:
        for line in story(Path(temporary), int(sys.argv[1]) if len(sys.argv) > 1 else 1000):
            print(line, flush=True)
