"""`ensure_download`: a file or an archive from a real server by https, from a real S3 by the `aws` command."""

from __future__ import annotations

import hashlib
import io
import os
import socket
import stat
import subprocess
import sys
import tarfile
import time
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from nbprovision.files import archive, web_download
from nbprovision.files.ensure_download import RECORD, EnsureDownload
from nbprovision.machine.machine import Machine
from nbprovision.machine.network import NetworkFailed
from nbprovision.model.errors import NotBegun, ParameterError, TaskFailed
from nbprovision.system import disk_space, secrets
from tests.support import moto_server
from tests.support.driver import converge, planned
from tests.support.file_server import Authority, FileServer, make_authority, serving_files

CONTENT = b"content of a model\n" * 50_000


def digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


SHA256 = digest(CONTENT)


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return make_authority(tmp_path_factory.mktemp("authority"))


@pytest.fixture
def secure(authority: Authority, machine: Machine) -> Iterator[FileServer]:
    """A server by https; the machine trusts its authority."""
    machine.env["SSL_CERT_FILE"] = str(authority.bundle)
    with serving_files(authority) as server:
        server.files["/model.bin"] = CONTENT
        yield server


@pytest.fixture
def server() -> Iterator[FileServer]:
    with serving_files() as server:
        server.files["/model.bin"] = CONTENT
        yield server


@pytest.fixture(autouse=True)
def no_waiting(machine: Machine, monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The pauses between attempts, which are left out."""
    pauses: list[float] = []
    monkeypatch.setattr("nbprovision.machine.network.time.sleep", pauses.append)
    for name in [name for name in machine.env if name.lower().endswith("_proxy")]:
        del machine.env[name]
    return pauses


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "work/model.bin"


def task(server: FileServer, path: Path, **parameters: Any) -> EnsureDownload:
    given = {"url": f"{server.url}/model.bin", "path": str(path), "sha256": SHA256, **parameters}
    return EnsureDownload(**given)


# -------------------------------------------------------------------------------------------------------- parameters


@pytest.mark.parametrize(("url", "reason"), [
    ("http://host.example/a", "is not encrypted"),
    ("https://ada:hunter22@host.example/a", "contains a user, a password"),
    ("https://hunter22@host.example/a", "contains a user, a password"),
    ("https://host.example/a?token=hunter22", "contains a user, a password"),
    ("https://b.s3.amazonaws.com/a?X-Amz-Signature=hunter22", "contains a user, a password"),
    ("https://host.example/", "is not the URL of a file"),
    ("https://host.example/a b", "is not the URL of a file"),
    ("https://[::1/a", "is not the URL of a file"),
    ("https://host.example:port/a", "is not the URL of a file"),
    ("ftp://host.example/a", "is not the URL of a file"),
    ("s3://bucket", "is not the URL of a file"),
    ("s3://bucket/folder/", "is not the URL of a file"),
    ("file:///etc/passwd", "ensure_file with `src`"),
    ("/etc/passwd", "ensure_file with `src`"),
])  # fmt: skip
def test_a_url_is_refused(url: str, reason: str) -> None:
    with pytest.raises(ParameterError) as caught:
        EnsureDownload(url=url, path="/x", sha256=SHA256)
    assert reason in caught.value.text
    assert "hunter22" not in secrets.mask(caught.value.text)
    assert "hunter22" not in secrets.mask(url), "the line of the playbook is shown, too"


@pytest.mark.parametrize("sha256", ["", "abc", "sha256:" + SHA256, "https://host.example/SHA256SUMS", "g" * 64])
def test_a_digest_is_refused(sha256: str) -> None:
    with pytest.raises(ParameterError, match="is not a SHA-256") as caught:
        EnsureDownload(url="https://host.example/a", path="/x", sha256=sha256)
    assert "curl -fsSL URL | sha256sum" in caught.value.cure


def test_an_unpacked_folder_has_no_mode() -> None:
    with pytest.raises(ParameterError, match="is for a file"):
        EnsureDownload(url="https://host.example/a", path="/x", sha256=SHA256, unpack=True, mode="0600")


# ------------------------------------------------------------------------------------------------------------- a file


def test_a_file(secure: FileServer, path: Path, machine: Machine) -> None:
    wanted = task(secure, path)
    assert [change.action for change in planned(wanted, machine)] == ["download"]
    assert not path.parent.exists()
    assert secure.requests == []
    converge(wanted, machine)
    assert path.read_bytes() == CONTENT
    assert stat.S_IMODE(path.stat().st_mode) == 0o644
    assert os.listdir(path.parent) == ["model.bin"]
    count = len(secure.requests)
    assert planned(task(secure, path, sha256=SHA256.upper()), machine) == ()
    assert len(secure.requests) == count, "a second run asks nobody"


def test_progress_is_reported(server: FileServer, path: Path, machine: Machine) -> None:
    reported: list[tuple[str, float, float]] = []
    machine.on_progress = lambda *values: reported.append(values)
    converge(task(server, path), machine)
    assert reported[0][0] == "fetching model.bin"
    assert reported[0][2] == len(CONTENT)


def test_the_mode(server: FileServer, path: Path, machine: Machine) -> None:
    converge(task(server, path, mode="0700"), machine)
    assert stat.S_IMODE(path.stat().st_mode) == 0o700
    path.chmod(0o600)
    count = len(server.requests)
    (change,) = converge(task(server, path, mode="u+x"), machine)
    assert (change.action, change.before, change.after) == ("set mode", "0600", "0700")
    assert len(server.requests) == count
    assert planned(task(server, path), machine) == ()


def test_another_content_is_replaced_with_its_mode(server: FileServer, path: Path, machine: Machine) -> None:
    path.parent.mkdir()
    path.write_text("old")
    path.chmod(0o640)
    converge(task(server, path), machine)
    assert path.read_bytes() == CONTENT
    assert stat.S_IMODE(path.stat().st_mode) == 0o640


@pytest.mark.parametrize("kind", ["folder", "link", "pipe"])
def test_what_is_no_file_is_kept(kind: str, server: FileServer, path: Path, machine: Machine, tmp_path: Path) -> None:
    path.parent.mkdir()
    if kind == "folder":
        path.mkdir()
    elif kind == "link":
        (tmp_path / "mine").write_text("mine")
        path.symlink_to(tmp_path / "mine")
    else:
        os.mkfifo(path)
    before = path.lstat()
    with pytest.raises(TaskFailed) as caught:
        converge(task(server, path), machine)
    assert caught.value.cure
    assert path.lstat().st_ino == before.st_ino
    assert server.requests == []


def test_a_wrong_digest_changes_nothing(server: FileServer, path: Path, machine: Machine) -> None:
    path.parent.mkdir()
    path.write_text("old")
    with pytest.raises(NetworkFailed) as caught:
        converge(task(server, path, sha256="0" * 64), machine)
    assert caught.value.kind == "garbled"
    assert f"sha256 is {SHA256}, not {'0' * 64}" in caught.value.cause
    assert path.read_text() == "old"
    assert os.listdir(path.parent) == ["model.bin"]
    assert len(server.requests) == 2, "once more from the beginning, as a proxy may have an old copy"


# --------------------------------------------------------------------------------------------------------- the network


def test_an_interrupted_download_continues(server: FileServer, path: Path, machine: Machine) -> None:
    server.cut, server.times = 300_000, 2
    converge(task(server, path), machine)
    assert [request.range for request in server.requests] == [None, "bytes=300000-", "bytes=600000-"]
    assert path.read_bytes() == CONTENT


def test_a_server_without_ranges_begins_again(server: FileServer, path: Path, machine: Machine) -> None:
    server.cut, server.times, server.ranges = 300_000, 1, False
    converge(task(server, path), machine)
    assert path.read_bytes() == CONTENT


@pytest.mark.parametrize("fault", ["another file", "shorter file", "wrong range"])
def test_a_continuation_that_does_not_fit_begins_again(
    fault: str, server: FileServer, path: Path, machine: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    server.cut, server.times = 300_000, 1
    content = {"another file": b"x" * 500_000, "shorter file": b"x" * 100, "wrong range": CONTENT}[fault]
    server.wrong_range = fault == "wrong range"

    def change(_seconds: float) -> None:
        server.wrong_range = server.wrong_range and len(server.requests) < 2
        server.files["/model.bin"] = content

    monkeypatch.setattr("nbprovision.machine.network.time.sleep", change)
    converge(task(server, path, sha256=digest(content)), machine)
    assert path.read_bytes() == content


def test_a_server_that_says_no_length(server: FileServer, path: Path, machine: Machine) -> None:
    server.length = False
    converge(task(server, path), machine)
    assert path.read_bytes() == CONTENT


def test_retry_after_is_kept(server: FileServer, path: Path, machine: Machine, no_waiting: list[float]) -> None:
    server.status, server.times, server.headers = 503, 1, {"Retry-After": "7"}
    converge(task(server, path), machine)
    assert no_waiting == [7.0]
    path.unlink()
    server.times, server.headers = 1, {"Retry-After": "100000"}
    with pytest.raises(NetworkFailed) as caught:
        converge(task(server, path), machine)
    assert caught.value.kind == "busy"
    assert no_waiting == [7.0], "longer than the patience of the run"


@pytest.mark.parametrize(("status", "kind"), [(403, "forbidden"), (404, "missing"), (500, "server"), (418, "unclear")])
def test_a_failing_server(status: int, kind: str, server: FileServer, path: Path, machine: Machine) -> None:
    server.status, server.times = status, 100
    with pytest.raises(NetworkFailed) as caught:
        converge(task(server, path), machine)
    assert caught.value.kind == kind
    assert str(status) in caught.value.cause
    assert list(path.parent.iterdir()) == []


def test_no_server(server: FileServer, path: Path, machine: Machine) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        for url, kind in (
            (f"https://127.0.0.1:{free.getsockname()[1]}/a", "refused"),
            ("https://nowhere.invalid/a", "dns"),
        ):
            with pytest.raises(NetworkFailed) as caught:
                converge(task(server, path, url=url), machine)
            assert caught.value.kind == kind


def test_a_silent_server_is_given_up(server: FileServer, path: Path, machine: Machine) -> None:
    server.silent = True
    machine.env.update(NBPROVISION_NETWORK_PATIENCE="0", NBPROVISION_NETWORK_TIMEOUT="1")
    with pytest.raises(NetworkFailed) as caught:
        converge(task(server, path), machine)
    assert caught.value.kind == "silent"


def test_an_unknown_authority(secure: FileServer, path: Path, machine: Machine) -> None:
    del machine.env["SSL_CERT_FILE"]
    for name in ("REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE", "SSL_CERT_DIR"):
        machine.env.pop(name, None)
    with pytest.raises(NetworkFailed) as caught:
        converge(task(secure, path), machine)
    assert caught.value.kind == "certificate"
    assert "SSL_CERT_FILE" in caught.value.cure


@pytest.mark.parametrize("name", ["REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE"])
def test_other_variables_name_an_authority_too(name: str, secure: FileServer, path: Path, machine: Machine) -> None:
    for other in ("REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE", "SSL_CERT_DIR"):
        machine.env.pop(other, None)
    machine.env[name] = machine.env.pop("SSL_CERT_FILE")
    converge(task(secure, path), machine)


def test_a_file_of_authorities_that_cannot_be_read(secure: FileServer, path: Path, machine: Machine) -> None:
    machine.env["SSL_CERT_FILE"] = "/nowhere.pem"
    with pytest.raises(TaskFailed, match="cannot fetch") as caught:
        converge(task(secure, path), machine)
    assert "/nowhere.pem" in caught.value.cause


def test_redirects(secure: FileServer, server: FileServer, path: Path, machine: Machine) -> None:
    secure.redirects |= {
        "/a": "/b",
        "/b": f"{secure.url}/model.bin",
        "/circle": "/circle",
        "/plain": "http://host.example/a",
    }
    converge(task(secure, path, url=f"{secure.url}/a"), machine)
    path.unlink()
    with pytest.raises(NetworkFailed, match="cannot fetch") as network:
        converge(task(secure, path, url=f"{secure.url}/circle"), machine)
    assert "redirects" in network.value.cause
    with pytest.raises(TaskFailed) as caught:
        converge(task(secure, path, url=f"{secure.url}/plain"), machine)
    assert "leads to http://host.example/a, which is not encrypted" in caught.value.cause


def test_a_user_of_the_netrc(
    secure: FileServer, path: Path, machine: Machine, home: Path, authority: Authority
) -> None:
    secure.user = "ada:pass word"
    with pytest.raises(NetworkFailed) as caught:
        converge(task(secure, path), machine)
    assert caught.value.kind == "credentials"
    assert "~/.netrc" in caught.value.cure
    netrc = home / ".netrc"
    netrc.write_text('machine 127.0.0.1 login ada password "pass word"\n')
    netrc.chmod(0o600)
    converge(task(secure, path), machine)
    assert secrets.mask("pass word") == "****"
    netrc.write_text("nonsense\n")
    path.unlink()
    with pytest.raises(TaskFailed, match="cannot fetch") as invalid:
        converge(task(secure, path), machine)
    assert ".netrc is not valid" in invalid.value.cause


def test_a_password_goes_to_its_own_server_only(server: FileServer, path: Path, machine: Machine, home: Path) -> None:
    (home / ".netrc").write_text("machine localhost login ada password hunter22\n")
    (home / ".netrc").chmod(0o600)
    server.redirects["/a"] = f"{server.url}/model.bin"
    url = server.url.replace("127.0.0.1", "localhost") + "/a"
    converge(task(server, path, url=url), machine)
    assert [bool(request.authorization) for request in server.requests] == [True, False]


def test_a_proxy_and_its_exceptions(server: FileServer, path: Path, machine: Machine) -> None:
    """The proxy of the test answers itself, as for http it gets the whole URL."""
    with serving_files() as proxy:
        proxy.files[f"{server.url}/model.bin"] = CONTENT
        proxy.user = ""
        machine.env["http_proxy"] = proxy.url.replace("http://", "http://ada:hunter22@")
        converge(task(server, path), machine)
        assert len(proxy.requests) == 1
        assert server.requests == []
        path.unlink()
        machine.env["no_proxy"] = "127.0.0.1"
        converge(task(server, path), machine)
        assert len(proxy.requests) == 1


def test_the_space_is_looked_at_before(
    server: FileServer, path: Path, machine: Machine, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    little = disk_space.FreeSpace(tmp_path, 1000, 1000, None)
    monkeypatch.setattr(web_download.disk_space, "free_space", lambda _path: little)
    with pytest.raises(NotBegun) as caught:
        converge(task(server, path), machine)
    assert "the file has 0.9 MB" in caught.value.cause
    assert list(path.parent.iterdir()) == []


def test_a_killed_download_leaves_nothing(server: FileServer, path: Path, env: dict[str, str], tmp_path: Path) -> None:
    server.files["/model.bin"] = CONTENT * 100
    server.cut, server.times, server.status = 10_000_000, 10_000, 0
    playbook = tmp_path / "playbook.yml"
    playbook.write_text(
        f"- tasks:\n    - ensure_download: {{url: '{server.url}/model.bin', path: {path}, "
        f"sha256: {digest(CONTENT * 100)}}}\n"
    )
    env = {**env, "PYTHONPATH": str(Path(__file__).parents[2]), "no_proxy": "127.0.0.1"}
    words = [sys.executable, "-m", "nbprovision", "run", str(playbook)]
    process = subprocess.Popen(words, env=env, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    began = time.monotonic()
    while not (path.parent.exists() and list(path.parent.glob(".model.bin.*/download"))):
        assert time.monotonic() - began < 60
        os.sched_yield()
    process.kill()
    process.wait()
    assert not path.exists()
    server.times = 0
    done = subprocess.run(words, env=env, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert os.listdir(path.parent) == ["model.bin"]
    again = subprocess.run([*words, "--format", "json"], env=env, capture_output=True, text=True, check=False)
    assert '"proof":"witness"' in again.stdout


# ---------------------------------------------------------------------------------------------------------- an archive


def tar(*entries: tuple[tarfile.TarInfo, bytes], mode: str = "w:gz") -> bytes:
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode=mode) as made:  # type: ignore[call-overload]
        for info, content in entries:
            info.size = len(content) if info.isreg() else 0
            made.addfile(info, io.BytesIO(content))
    return stream.getvalue()


def entry(name: str, content: bytes = b"", **values: Any) -> tuple[tarfile.TarInfo, bytes]:
    info = tarfile.TarInfo(name)
    for key, value in values.items():
        setattr(info, key, value)
    return info, content


def zipped(*entries: tuple[str, bytes, int]) -> bytes:
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", zipfile.ZIP_DEFLATED) as made:
        for name, content, mode in entries:
            info = zipfile.ZipInfo(name)
            info.external_attr = mode << 16
            info.compress_type = zipfile.ZIP_DEFLATED
            made.writestr(info, content)
    return stream.getvalue()


GOOD = (
    entry("./", type=tarfile.DIRTYPE, mode=0o700),
    entry("bin/", type=tarfile.DIRTYPE, mode=0o777),
    entry("bin/tool", b"#!/bin/sh\n", mode=0o4777),
    entry("deep/er/data.csv", b"1,2\n", mode=0o600),
    entry("latest", type=tarfile.SYMTYPE, linkname="deep/er"),
    entry("bin/other", type=tarfile.LNKTYPE, linkname="bin/tool"),
)


def unpacking(server: FileServer, path: Path, content: bytes, **parameters: Any) -> EnsureDownload:
    server.files["/archive"] = content
    return task(server, path, url=f"{server.url}/archive", sha256=digest(content), unpack=True, **parameters)


@pytest.mark.parametrize("mode", ["w", "w:gz", "w:bz2", "w:xz"])
def test_a_tar(mode: str, server: FileServer, path: Path, machine: Machine) -> None:
    wanted = unpacking(server, path, tar(*GOOD, mode=mode))
    assert [change.action for change in converge(wanted, machine)] == ["unpack"]
    assert (path / "deep/er/data.csv").read_bytes() == b"1,2\n"
    assert (path / "latest/data.csv").read_bytes() == b"1,2\n"
    assert (path / "bin/other").read_bytes() == b"#!/bin/sh\n"
    modes = {name: stat.S_IMODE((path / name).lstat().st_mode) for name in (".", "bin", "bin/tool", "deep/er/data.csv")}
    assert modes == {".": 0o755, "bin": 0o755, "bin/tool": 0o755, "deep/er/data.csv": 0o644}
    assert os.listdir(path.parent) == [path.name]
    count = len(server.requests)
    assert planned(wanted, machine) == ()
    assert len(server.requests) == count
    assert list(wanted.witnesses(machine)) == [path / RECORD]


def test_a_zip(server: FileServer, path: Path, machine: Machine) -> None:
    content = zipped(("bin/tool", b"#!/bin/sh\n", 0o100755), ("a/b.txt", b"text", 0), ("a/link", b"b.txt", 0o120777))
    converge(unpacking(server, path, content), machine)
    assert (path / "a/link").read_bytes() == b"text"
    assert stat.S_IMODE((path / "bin/tool").stat().st_mode) == 0o755
    assert stat.S_IMODE((path / "a/b.txt").stat().st_mode) == 0o644


LEFT_OUT = {
    "absolute": tar(entry("/escaped", b"x")),
    "upwards": tar(entry("a/../../escaped", b"x")),
    "link upwards": tar(entry("a", type=tarfile.SYMTYPE, linkname="../escaped")),
    "absolute link": tar(entry("a", type=tarfile.SYMTYPE, linkname="/etc/passwd")),
    "through a link": tar(
        entry("a", type=tarfile.SYMTYPE, linkname="b"), entry("b/", type=tarfile.DIRTYPE), entry("a/x", b"x")
    ),
    "links that lead on": tar(
        entry("x/", type=tarfile.DIRTYPE),
        entry("a", type=tarfile.SYMTYPE, linkname="x/b/../.."),
        entry("x/b", type=tarfile.SYMTYPE, linkname=".."),
    ),
    "copy upwards": tar(entry("a", type=tarfile.LNKTYPE, linkname="../../escaped")),
    "copy of a link": tar(
        entry("a", type=tarfile.SYMTYPE, linkname="b"), entry("b", b"x"), entry("c", type=tarfile.LNKTYPE, linkname="a")
    ),
    "copy of nothing": tar(entry("a", type=tarfile.LNKTYPE, linkname="b")),
    "device": tar(entry("a", type=tarfile.CHRTYPE, devmajor=1, devminor=3)),
    "pipe": tar(entry("a", type=tarfile.FIFOTYPE)),
    "file and folder": tar(entry("a", b"x"), entry("a/b", b"x")),
    "folder and file": tar(entry("a/b", b"x"), entry("a", b"x")),
    "zip upwards": zipped(("../escaped", b"x", 0)),
    "zip link": zipped(("a", b"../../escaped", 0o120777)),
    "zip pipe": zipped(("a", b"", 0o010644)),
    "no archive": b"<html>log in</html>" * 100,
    "cut tar": tar(*GOOD, entry("big", os.urandom(100_000)))[:50_000],
    "cut zip": zipped(("a", os.urandom(1000), 0))[:-50],
    "damaged zip": zipped(("a", b"a" * 1000, 0)).replace(b"a", b"a", 1)[:40]
    + b"\xff" * 8
    + zipped(("a", b"a" * 1000, 0))[48:],
}


@pytest.mark.parametrize("name", LEFT_OUT)
def test_an_archive_is_refused(name: str, server: FileServer, path: Path, machine: Machine, tmp_path: Path) -> None:
    with pytest.raises(TaskFailed, match="cannot unpack") as caught:
        converge(unpacking(server, path, LEFT_OUT[name]), machine)
    assert caught.value.cause
    assert caught.value.cure
    assert list(path.parent.iterdir()) == []
    assert not list(tmp_path.rglob("escaped"))


@pytest.mark.parametrize("content", [tar(entry("a", b"\0" * 3_000_000)), zipped(("a", b"\0" * 3_000_000, 0))])
def test_a_bomb(
    content: bytes, server: FileServer, path: Path, machine: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(archive, "_MOST_BYTES", 1_000_000)
    monkeypatch.setattr(archive, "_MOST_TIMES", 100)
    with pytest.raises(TaskFailed) as caught:
        converge(unpacking(server, path, content), machine)
    assert "far too large" in caught.value.cause
    monkeypatch.setattr(archive, "_MOST_TIMES", 2000)
    converge(unpacking(server, path, content), machine)


def test_too_many_entries(server: FileServer, path: Path, machine: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(archive, "_MOST_ENTRIES", 3)
    with pytest.raises(TaskFailed) as caught:
        converge(unpacking(server, path, tar(*(entry(f"{number}") for number in range(4)))), machine)
    assert "more than 3 entries" in caught.value.cause


def test_the_last_entry_of_a_name_counts(server: FileServer, path: Path, machine: Machine) -> None:
    converge(unpacking(server, path, tar(entry("a", b"old"), entry("a", b"new"))), machine)
    assert (path / "a").read_bytes() == b"new"


def test_another_version_replaces_the_folder(server: FileServer, path: Path, machine: Machine) -> None:
    converge(unpacking(server, path, tar(entry("a", b"1"), entry("b", b"1"))), machine)
    converge(unpacking(server, path, tar(entry("a", b"2"))), machine)
    assert sorted(os.listdir(path)) == sorted([RECORD, "a"])
    assert (path / "a").read_bytes() == b"2"
    assert os.listdir(path.parent) == [path.name]


@pytest.mark.parametrize("work", ["added", "changed", "removed"])
def test_a_folder_with_work_in_it_is_not_replaced(work: str, server: FileServer, path: Path, machine: Machine) -> None:
    converge(unpacking(server, path, tar(entry("a", b"1"), entry("b", b"1"))), machine)
    if work == "removed":
        (path / "a").unlink()
    else:
        (path / ("mine.ipynb" if work == "added" else "a")).write_text("mine")
    count = len(server.requests)
    with pytest.raises(TaskFailed, match="is not replaced by another version") as caught:
        converge(unpacking(server, path, tar(entry("a", b"2"))), machine)
    assert ("mine.ipynb" if work == "added" else "a") in caught.value.cause
    assert len(server.requests) == count
    assert (path / "b").read_bytes() == b"1"


def test_a_folder_of_somebody_else_is_kept(server: FileServer, path: Path, machine: Machine) -> None:
    path.mkdir(parents=True)
    wanted = unpacking(server, path, tar(entry("a", b"1")))
    (path / "mine").write_text("mine")
    with pytest.raises(TaskFailed, match="is not from this task"):
        converge(wanted, machine)
    (path / "mine").unlink()
    converge(wanted, machine)


def test_deep_repairs_the_files_and_keeps_others(server: FileServer, path: Path, machine: Machine) -> None:
    content = tar(entry("a", b"1"), entry("b/c", b"1"), entry("l", type=tarfile.SYMTYPE, linkname="a"))
    converge(unpacking(server, path, content), machine)
    (path / "a").write_text("damaged")
    (path / "b/c").unlink()
    (path / "b").rmdir()
    (path / "mine").write_text("mine")
    assert planned(unpacking(server, path, content), machine) == ()
    changes = converge(unpacking(server, path, content, deep=True), machine)
    assert [change.action for change in changes] == ["repair"]
    assert (path / "a").read_bytes() == (path / "b/c").read_bytes() == b"1"
    assert (path / "mine").read_text() == "mine"


def test_deep_follows_no_link_out_of_the_folder(
    server: FileServer, path: Path, machine: Machine, tmp_path: Path
) -> None:
    content = tar(entry("b/c", b"1"))
    converge(unpacking(server, path, content), machine)
    (path / "b/c").unlink()
    (path / "b").rmdir()
    (tmp_path / "outside").mkdir()
    (path / "b").symlink_to(tmp_path / "outside")
    with pytest.raises(TaskFailed, match="cannot repair"):
        converge(unpacking(server, path, content, deep=True), machine)
    assert os.listdir(tmp_path / "outside") == []


def test_names_of_any_bytes(server: FileServer, path: Path, machine: Machine) -> None:
    name = os.fsdecode(b"caf\xe9\n.txt")
    converge(unpacking(server, path, tar(entry(name, b"1"))), machine)
    assert (path / name).read_bytes() == b"1"
    converge(unpacking(server, path, tar(entry("a", b"2"))), machine)


# ------------------------------------------------------------------------------------------------------------------ S3


@pytest.fixture(scope="module")
def s3() -> Iterator[str]:
    """The endpoint of moto's server."""
    with moto_server.serving() as address:
        yield address


@moto_server.NEEDED
def test_an_object_of_s3(
    s3: str, path: Path, machine: Machine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    machine.env.update(
        AWS_ENDPOINT_URL=s3, AWS_ACCESS_KEY_ID="testing", AWS_SECRET_ACCESS_KEY="testing", NO_PROXY="127.0.0.1",
        AWS_DEFAULT_REGION="us-east-1", PATH=f"{moto_server.AWS.parent}:{machine.env['PATH']}",
    )  # fmt: skip
    (tmp_path / "object").write_bytes(CONTENT)
    for words in (["s3", "mb", "s3://models"], ["s3", "cp", str(tmp_path / "object"), "s3://models/v1/model.bin"]):
        subprocess.run([moto_server.AWS, *words], env=dict(machine.env), check=True, capture_output=True)

    def wanted(url: str = "s3://models/v1/model.bin", sha256: str = SHA256) -> EnsureDownload:
        return EnsureDownload(url=url, path=str(path), sha256=sha256)

    converge(wanted(), machine)
    assert path.read_bytes() == CONTENT
    path.unlink()
    with pytest.raises(TaskFailed) as caught:
        converge(wanted(sha256="0" * 64), machine)
    assert "the object is not the expected one" in caught.value.cause
    with pytest.raises(TaskFailed) as caught:
        converge(wanted("s3://models/v2/model.bin"), machine)
    assert "aws s3 ls" in caught.value.cure
    little = disk_space.FreeSpace(tmp_path, 1000, 1000, None)
    with monkeypatch.context() as patch:
        patch.setattr("nbprovision.machine.s3.disk_space.free_space", lambda _path: little)
        with pytest.raises(NotBegun):
            converge(wanted(), machine)
    machine.env.update(AWS_ENDPOINT_URL="http://127.0.0.1:9", AWS_MAX_ATTEMPTS="1", NBPROVISION_NETWORK_PATIENCE="0")
    with pytest.raises(NetworkFailed):
        converge(wanted(), machine)
    machine.env["PATH"] = str(tmp_path)
    with pytest.raises(TaskFailed) as caught:
        converge(wanted(), machine)
    assert "the `aws` command is not on the PATH" in caught.value.cause
    assert list(path.parent.iterdir()) == []
