"""What is made of an engine's words about a network, and how long is waited; no network is needed for it."""

from __future__ import annotations

import pytest

from nbprovision.machine import network
from nbprovision.machine.machine import Machine
from nbprovision.machine.network import NetworkFailed, Server, network_failure
from nbprovision.model.errors import TaskFailed
from tests.support.faulty_server import unused_port

INDEX = Server("index", "http://me:Sesam12@index.invalid/simple")


def failed(kind: network.Kind = "server") -> NetworkFailed:
    return NetworkFailed("it failed", kind, INDEX, url=INDEX.url, said="words")


class Clock:
    """Stands for the clock, so that nothing has to be waited for."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now = 1000.0
        self.slept: list[float] = []
        monkeypatch.setattr(network.time, "monotonic", lambda: self.now)
        monkeypatch.setattr(network.time, "sleep", self.sleep)

    def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        self.now += seconds


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    return Clock(monkeypatch)


def failing(*errors: Exception) -> tuple[list[bool], object]:
    """Work that fails with these, then is done; and a list of how it was called."""
    calls: list[bool] = []

    def work(cached_only: bool) -> str:
        calls.append(cached_only)
        if len(calls) <= len(errors):
            raise errors[len(calls) - 1]
        return "done"

    return calls, work


def test_what_passes_is_asked_again_with_growing_pauses(machine: Machine, clock: Clock) -> None:
    calls, work = failing(failed(), failed("cut"), failed("dns"))
    assert network.retry(machine, work) == "done"  # type: ignore[arg-type]
    assert calls == [False] * 4
    first, second, third = clock.slept
    assert 0.75 <= first <= 1.25
    assert 1.5 <= second <= 2.5
    assert 3 <= third <= 5


def test_a_name_that_is_not_there_is_asked_for_once_more_only(machine: Machine, clock: Clock) -> None:
    calls, work = failing(*[failed("dns")] * 9)
    with pytest.raises(NetworkFailed):
        network.retry(machine, work, cached=False)  # type: ignore[arg-type]
    assert len(calls) == 2


@pytest.mark.parametrize("kind", ["credentials", "forbidden", "missing", "proxy", "certificate"])
def test_what_stays_is_asked_once(kind: network.Kind, machine: Machine, clock: Clock) -> None:
    calls, work = failing(failed(kind), TaskFailed("not in the cache"))
    with pytest.raises(NetworkFailed):
        network.retry(machine, work)  # type: ignore[arg-type]
    assert calls.count(False) == 1
    assert clock.slept == []


@pytest.mark.parametrize("kind", ["credentials", "forbidden", "missing", "garbled"])
def test_a_cache_serves_where_a_server_stays_away_and_not_where_it_has_spoken(
    kind: network.Kind, machine: Machine, clock: Clock
) -> None:
    machine.env["NBPROVISION_NETWORK_PATIENCE"] = "0"
    calls, work = failing(failed(kind))
    with pytest.raises(NetworkFailed):
        network.retry(machine, work)  # type: ignore[arg-type]
    calls, work = failing(failed("refused"))
    with machine.noting() as noted:
        assert network.retry(machine, work) == "done"  # type: ignore[arg-type]
    assert calls == [False, True]
    assert noted == ["index.invalid refuses the connection: the cache was used"]


def test_garbled_bytes_get_one_more_chance(machine: Machine, clock: Clock) -> None:
    calls, work = failing(failed("garbled"), failed("garbled"), failed("garbled"))
    with pytest.raises(NetworkFailed, match="2 attempts in"):
        network.retry(machine, work)  # type: ignore[arg-type]
    assert len(calls) == 2


def test_all_tasks_of_a_run_share_one_patience(machine: Machine, clock: Clock) -> None:
    machine.env["NBPROVISION_NETWORK_PATIENCE"] = "10"
    forever = [failed() for _ in range(99)]
    with pytest.raises(NetworkFailed):
        network.retry(machine, failing(*forever)[1], cached=False)  # type: ignore[arg-type]
    first = list(clock.slept)
    assert 3 <= len(first) <= 4
    assert sum(first) <= 10
    with pytest.raises(NetworkFailed):
        network.retry(machine, failing(*forever)[1], cached=False)  # type: ignore[arg-type]
    assert sum(clock.slept) <= 10


def test_long_work_before_a_failure_does_not_use_up_the_patience(machine: Machine, clock: Clock) -> None:
    def work(_: bool) -> str:
        clock.now += 300
        if clock.now < 1500:
            raise failed("cut")
        return "done"

    assert network.retry(machine, work) == "done"


def test_silence_that_was_sat_through_uses_it_up(machine: Machine, clock: Clock) -> None:
    def work(_: bool) -> str:
        clock.now += 70
        raise failed("silent")

    with pytest.raises(NetworkFailed):
        network.retry(machine, work, cached=False)
    assert clock.slept == []
    assert network.patience(machine).exhausted


@pytest.mark.parametrize("name", ["NBPROVISION_NETWORK_TIMEOUT", "NBPROVISION_NETWORK_PATIENCE"])
@pytest.mark.parametrize("value", ["soon", "-1", "nan", "inf", "1e9"])
def test_a_limit_that_is_no_number_is_named(name: str, value: str, machine: Machine) -> None:
    machine.env[name] = value
    with pytest.raises(TaskFailed, match=f"{name} is not a number of seconds\n  why: it is '{value}'"):
        network.retry(machine, failing(failed(), failed())[1], cached=False)  # type: ignore[arg-type]


# What uv, pip, rattler and conda print, and what it is: the last word of the engine's that the tests of real ones met.
WORDS = [
    ("HTTP status client error (401 Unauthorized) for url (http://index.invalid/simple/six/)", "credentials"),
    ("An index URL (http://index.invalid/simple) could not be queried ... (401 Unauthorized)", "credentials"),
    ("Could not fetch URL http://index.invalid/simple/six/: 401 Client Error: Unauthorized for url", "credentials"),
    ("An index (http://index.invalid/simple) returned a 403 Forbidden error.", "forbidden"),
    ("ERROR: 403 Client Error: Forbidden for url: http://index.invalid/simple/six/", "forbidden"),
    ("ERROR: HTTP error 404 while getting http://index.invalid/files/six.whl", "missing"),
    ("HTTP status client error (429 Too Many Requests) for url (http://index.invalid/simple/six/)", "busy"),
    ("HTTP status server error (502 Bad Gateway) for url (http://index.invalid/simple/six/)", "server"),
    ("Max retries exceeded (Caused by ResponseError('too many 500 error responses'))", "server"),
    ("HTTP status client error (407 Proxy Authentication Required) for url (http://index.invalid/)", "proxy"),
    ("CondaHTTPError: HTTP 403 FORBIDDEN for url <http://index.invalid/noarch/repodata.json>", "forbidden"),
    ("error sending request for url (http://index.invalid/simple/six/)\ncause: operation timed out", "silent"),
    ("HTTPConnectionPool: Max retries exceeded (Caused by ReadTimeoutError('Read timed out.'))", "silent"),
    ("error: connection-timeout\nindex.invalid didn't respond within 1.0 seconds", "silent"),
    ("error sending request for url (http://index.invalid/)\ntcp connect error: Connection refused", "refused"),
    ("error sending request; caused by: dns error; caused by: failed to lookup address information", "dns"),
    ("error sending request; caused by: tcp connect error: Network is unreachable (os error 101)", "route"),
    ("error sending request; caused by: invalid peer certificate: UnknownIssuer", "certificate"),
    ("error decoding response body; caused by: end of file before message length reached", "cut"),
    ("error sending request; caused by: client error (SendRequest); connection closed before message completed", "cut"),
    ("error: incomplete-download: not enough bytes were received", "cut"),
    ("Failed to download `apple==1.0`\ncause: Hash mismatch for `apple==1.0`", "garbled"),
    ("ERROR: THESE PACKAGES DO NOT MATCH THE HASHES FROM THE REQUIREMENTS FILE.", "garbled"),
    ("failed to decode zstd shard from 'http://index.invalid/x'; caused by: Unknown frame descriptor", "portal"),
    ("Because there are no versions of apple and you require apple, ...", "portal"),
    ("error sending request for url (http://index.invalid/simple/six/)", "unclear"),
]


@pytest.mark.parametrize(("said", "kind"), WORDS)
def test_the_words_of_engines(said: str, kind: str) -> None:
    found = network_failure("it failed", said, INDEX, {})
    assert found is not None
    assert found.kind == kind
    assert "index.invalid" in found.reason
    assert "Sesam12" not in found.text
    assert found.cure


@pytest.mark.parametrize(
    ("url", "told"),
    [
        ("https://index.invalid/simple", "asks for a user and password, and none were sent (status 401)"),
        ("https://u:Sesam12@index.invalid/simple", "and does not take those that were sent (status 401)"),
    ],
)
def test_a_password_that_is_wrong_is_told_from_one_that_is_missing(url: str, told: str) -> None:
    said = "HTTP status client error (401 Unauthorized) for url (https://index.invalid/simple/x/)"
    found = network_failure("it failed", said, Server("index", url), {})
    assert found is not None
    assert told in found.cause
    assert "Sesam12" not in found.text


def test_a_file_on_another_host_than_the_index_is_named() -> None:
    said = "HTTP status server error (500 Internal Server Error) for url (https://files.invalid/six.whl#sha256=1)"
    found = network_failure("it failed", said, INDEX, {})
    assert found is not None
    assert found.reason == "https://files.invalid/six.whl failed (status 500)"


def test_a_page_that_an_index_does_not_have_is_no_fault_of_the_network() -> None:
    said = "Could not fetch URL http://index.invalid/simple/six/: 404 Client Error: Not Found for url: (from versions: none)"
    assert network_failure("it failed", said, INDEX, {}) is None


def test_the_way_goes_through_the_proxy_that_the_variables_name() -> None:
    proxy = {"http_proxy": f"http://127.0.0.1:{unused_port()}"}
    found = network_failure("it failed", "connection refused", INDEX, proxy)
    assert found is not None
    assert found.reason == f"index.invalid refuses the connection, by the proxy {proxy['http_proxy']}"
    direct = network_failure("it failed", "connection refused", INDEX, {**proxy, "no_proxy": "invalid"})
    assert direct is not None
    assert direct.reason == "index.invalid refuses the connection"


@pytest.mark.parametrize(
    "said",
    [
        "No solution found: because you require six<1 and six>2, we can conclude that ...",
        "No solution found: because you require async-timeout<1 and async-timeout>2, we can conclude that ...",
        "failed to build `mine`: subprocess-exited-with-error",
        "No space left on device (os error 28)",
        "permission denied (os error 13)",
        "error: In `--require-hashes` mode, all requirements must have a hash, but none were provided for: idna",
        "ERROR: Hashes are required in --require-hashes mode, but they are missing from some requirements here.",
    ],
)
def test_what_is_no_matter_of_the_network(said: str) -> None:
    assert network_failure("it failed", said, INDEX, {}) is None
    assert network_failure("it failed", "operation timed out", Server("channel", "file:///x"), {}) is None
