"""What the engine's process tells of its progress and of failures, and how it hands over credentials; no engine is at work."""

from __future__ import annotations

import asyncio
import json
import os
import time
from pathlib import Path
from typing import Any

import pytest

from nbprovision.conda import exact_records, rattler_child
from nbprovision.conda.exact_packages import LockedPackage
from nbprovision.conda.query import ExactRequest, InstallRequest, SolveRequest
from nbprovision.model.errors import TaskFailed


class Clock:
    """Stands for the clock: words about a download are not for every chunk."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now = 1000.0
        monkeypatch.setattr(time, "monotonic", lambda: self.now)


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    return Clock(monkeypatch)


@pytest.fixture
def told() -> list[dict[str, Any]]:
    return []


@pytest.fixture
def reporter(told: list[dict[str, Any]]) -> rattler_child._Reporter:
    return rattler_child._Reporter(lambda **fields: told.append(fields))  # type: ignore[abstract]


class TestProgress:
    def test_downloads_are_told_together_and_not_at_every_chunk(
        self, clock: Clock, reporter: rattler_child._Reporter, told: list[dict[str, Any]]
    ) -> None:
        apple, pear = (reporter.on_populate_cache_start(0, name) for name in ("apple", "pear"))
        reporter.on_download_progress(reporter.on_download_start(apple), 10, 100)
        reporter.on_download_progress(apple, 20, 100)  # at the same moment
        clock.now += 1
        reporter.on_download_progress(reporter.on_download_start(pear), 5, None)  # of a size that nobody knows
        assert [message["text"] for message in told] == ["fetching apple", "fetching pear"]
        assert told[0] == {"text": "fetching apple", "done": 10, "total": 100, "unit": "bytes"}
        assert told[1] == {"text": "fetching pear", "done": 25, "total": 105, "unit": "bytes"}

    def test_what_is_being_fetched_is_awaited_until_it_is_there(self, reporter: rattler_child._Reporter) -> None:
        numbers = [reporter.on_populate_cache_start(0, name) for name in ("apple", "pear")]
        assert not reporter.coming  # each may be in the cache
        for number in numbers:
            reporter.on_download_start(number)
        assert list(reporter.coming.values()) == ["apple", "pear"]
        before = reporter.progress
        reporter.on_download_progress(numbers[1], 10, None)
        assert reporter.progress != before
        reporter.on_download_completed(numbers[0])
        assert list(reporter.coming.values()) == ["pear"]

    def test_links_are_told_now_and_then_and_the_last_one_always(
        self, clock: Clock, reporter: rattler_child._Reporter, told: list[dict[str, Any]]
    ) -> None:
        reporter.on_transaction_start(3)
        for number in range(3):
            reporter.on_link_complete(reporter.on_link_start(number, "apple"))
        assert [message["done"] for message in told] == [0, 1, 3]
        assert {message["total"] for message in told} == {3}


def request(**more: Any) -> SolveRequest:
    fields: dict[str, Any] = {
        "attempts": [], "channels": ["https://channel.invalid/x"], "shown": ["one", "other"], "installed": [],
        "unlocked": [], "repodata": "/nowhere", "offline": False, "verify": True, "credentials": {}, **more,
    }  # fmt: skip
    return SolveRequest(**fields)


@pytest.mark.parametrize(
    ("said", "cure"),
    [
        ("could not read file:///opt/channel", "build it first by ensure_conda_channel"),
        ("no words that are known", "correct the channel's name or URL"),
    ],
)
def test_the_cure_for_a_channel_that_cannot_be_read(said: str, cure: str) -> None:
    error = rattler_child.unreachable(Exception(f"no luck\nCaused by: {said}"), request())
    assert error.message == "cannot read the channel one or other"
    assert error.cause == f"no luck; caused by: {said}"
    assert cure in error.cure
    offline = rattler_child.unreachable(Exception(said), request(offline=True))
    assert offline.cure.endswith("switch `offline` off, at least once")


@pytest.mark.parametrize(
    ("said", "cause", "cure"),
    [
        (
            "no luck\nCaused by: os error 13",
            "no luck; caused by: os error 13",
            "check who may write to {prefix} and /pkgs",
        ),
        ("os error 30", "is mounted read-only\nos error 30", "mount it for writing"),
        ("a link failed", "a link failed", "run again: completed work is kept"),
    ],
)
def test_the_cure_for_an_installation_that_failed(said: str, cause: str, cure: str, tmp_path: Path) -> None:
    prefix = tmp_path / "env"
    asked = InstallRequest(solution=0, prefix=str(prefix), cache="/pkgs", reinstall=[], requested=[], verify=True)
    error = rattler_child._failed(Exception(said), asked, [])
    assert error.message == f"the packages could not be installed into {prefix}"
    assert error.cause.endswith(cause)
    assert error.cure.startswith(cure.format(prefix=prefix))


def test_records_get_readable_and_nothing_else_is_touched(tmp_path: Path) -> None:
    meta = tmp_path / "conda-meta"
    meta.mkdir()
    (tmp_path / "elsewhere").touch(0o600)
    for name, mode in (("apple.json", 0o600), ("pear.json", 0o664), ("history", 0o600)):
        (meta / name).touch()
        (meta / name).chmod(mode)
    (meta / "planted.json").symlink_to(tmp_path / "elsewhere")
    rattler_child._open_records(tmp_path)
    modes = {path.name: path.stat().st_mode & 0o777 for path in meta.iterdir()}
    assert modes == {"apple.json": 0o644, "pear.json": 0o664, "history": 0o600, "planted.json": 0o600}


@pytest.mark.filterwarnings("ignore:.Platform. is deprecated")  # the name that releases before 0.27 have, too
def test_a_channel_is_told_by_its_file_and_one_elsewhere_by_nothing(tmp_path: Path) -> None:
    channel = tmp_path / "my channel"
    urls = ["https://channel.invalid/x", channel.as_uri()]
    assert rattler_child._identities(urls) == ()
    (channel / "noarch").mkdir(parents=True)
    (channel / "noarch/repodata.json").write_text("{}")
    before = rattler_child._identities(urls)
    assert len(before) == 1
    (channel / "noarch/repodata.json").write_text("{ }")
    assert rattler_child._identities(urls) != before


def test_the_largest_packages_are_fetched_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """At the end of the others, one of them would leave processors idle."""
    sizes = {"alpha": 10, "beta": 900, "gamma": 0, "delta": 300, "in-place": 10**6}
    packages = [
        LockedPackage(
            name=name,
            version="1",
            build="0",
            subdir="noarch",
            url=f"https://c.example/{name}-1-0.conda",
            channel="https://c.example",
            size=size,
        )
        for name, size in sizes.items()
    ]
    order = []

    async def fetched(_: exact_records.Locked, package: LockedPackage, *_more: object) -> None:
        order.append(package.name)

    monkeypatch.setattr(exact_records.Locked, "_fetch", fetched)
    request = ExactRequest(locked=packages, kept=[], installed=[], verify=True, credentials={})
    missing = {name: "" for name in sizes if name != "in-place"}
    fetch = exact_records.Locked(request).fetch(None, tmp_path / "pkgs", missing, None)  # type: ignore[arg-type]
    asyncio.run(fetch)
    assert order == ["beta", "delta", "alpha", "gamma"]


class TestCredentials:
    MINE = {"channel.invalid": {"CondaToken": "canary"}}

    @pytest.fixture(autouse=True)
    def variable(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """What a test leaves in the variable is taken back."""
        monkeypatch.setenv("RATTLER_AUTH_FILE", "")

    @staticmethod
    def offered() -> Any:
        """What the library reads, from memory."""
        name = os.environ["RATTLER_AUTH_FILE"]
        assert name.startswith("/proc/self/fd/")
        handle = int(name.rpartition("/")[2])
        assert os.readlink(name).startswith("/memfd:")
        content = os.pread(handle, 10_000, 0)
        os.close(handle)
        return json.loads(content)

    def test_none_leave_the_users_own_file(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("RATTLER_AUTH_FILE", "/mine")
        rattler_child._offer_credentials({})
        assert os.environ["RATTLER_AUTH_FILE"] == "/mine"

    def test_they_touch_no_disk(self) -> None:
        rattler_child._offer_credentials(self.MINE)
        assert self.offered() == self.MINE

    def test_those_of_the_users_file_hold_as_well(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        own = {"channel.invalid": {"CondaToken": "old"}, "other.invalid": {"CondaToken": "kept"}}
        (tmp_path / "auth.json").write_text(json.dumps(own))
        monkeypatch.setenv("RATTLER_AUTH_FILE", str(tmp_path / "auth.json"))
        rattler_child._offer_credentials(self.MINE)
        assert self.offered() == {**own, **self.MINE}
        assert json.loads((tmp_path / "auth.json").read_text()) == own

    def test_what_was_offered_stays_offered(self) -> None:
        rattler_child._offer_credentials(self.MINE)
        before = os.environ["RATTLER_AUTH_FILE"]
        rattler_child._offer_credentials(self.MINE)  # the next request of the same run
        assert os.environ["RATTLER_AUTH_FILE"] == before
        assert self.offered() == self.MINE

    @pytest.mark.parametrize("content", [None, "no JSON"])
    def test_a_users_file_that_cannot_be_read_is_named(
        self, content: str | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        path = tmp_path / "auth.json"
        if content is not None:
            path.write_text(content)
        monkeypatch.setenv("RATTLER_AUTH_FILE", str(path))
        with pytest.raises(TaskFailed, match="cannot read the credentials in") as caught:
            rattler_child._offer_credentials(self.MINE)
        assert str(path) in caught.value.message
        assert caught.value.cure == "see RATTLER_AUTH_FILE"
        assert os.environ["RATTLER_AUTH_FILE"] == str(path)
