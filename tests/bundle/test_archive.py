"""The file format of a bundle: whatever is cut off, altered or not a bundle is refused."""

from __future__ import annotations

import gzip
import io
import os
import tarfile
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nbprovision.bundle import archive
from nbprovision.bundle.archive import Damaged

CONTENT: dict[str, bytes | Path] = {
    "bootstrap.sh": b"#!/bin/sh\n" * 60,
    "tool/nbprovision-1.0-py3-none-any.whl": b"tool",
    "tool/uv-1.0-py3-none-manylinux_2_17_x86_64.whl": b"x",
    "tool/uv-1.0-py3-none-manylinux_2_17_aarch64.whl": b"a",
    "playbook/team.yml": b"- tasks: []\n",
    f"packages/{'0' * 64}/{'n' * 90}é-1.0-0.conda": bytes(range(256)) * 9,
    "packages/empty": b"",
}


def written(content: dict[str, bytes | Path] = CONTENT) -> bytes:
    stream = io.BytesIO()
    archive.write(stream, {"playbook": "team.yml"}, content)
    return stream.getvalue()


def verified(path: Path, content: bytes) -> archive.Bundle:
    path.write_bytes(content)
    bundle = archive.read(path)
    archive.verify(bundle)
    return bundle


def test_what_is_written_is_read(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"from a file")
    content = {**CONTENT, "packages/file": tmp_path / "file"}
    bundle = verified(tmp_path / "team.tar", written(content))
    assert bundle.manifest["playbook"] == "team.yml"
    for name, expected in content.items():
        assert archive.content(bundle, name) == (expected if isinstance(expected, bytes) else b"from a file")


def test_the_same_contents_are_the_same_bytes(tmp_path: Path) -> None:
    content = written()
    assert written(dict(reversed(CONTENT.items()))) == content
    with tarfile.open(fileobj=io.BytesIO(content)) as members:
        names = members.getnames()
        assert {(entry.mtime, entry.uid, entry.uname) for entry in members} == {(0, 0, "")}
    assert names[0] == "bootstrap.sh", "the first bytes of an object in a bucket are enough to begin with"


@pytest.mark.parametrize("blocks", range(22))
def test_a_bundle_of_any_length_is_whole(tmp_path: Path, blocks: int) -> None:
    """The zeros at its end begin anywhere in a record, the last block of it included."""
    content = {**CONTENT, "packages/more": b"x" * 512 * blocks}
    bundle = verified(tmp_path / "team.tar", written(content))
    assert archive.content(bundle, "packages/more") == content["packages/more"]


@given(st.integers(min_value=0))
def test_a_truncated_bundle_is_refused(tmp_path_factory: pytest.TempPathFactory, cut: int) -> None:
    content = written()
    with pytest.raises(Damaged):
        verified(tmp_path_factory.mktemp("cut") / "team.tar", content[: cut % len(content)])


@given(st.integers(min_value=0), st.integers(1, 255))
def test_an_altered_bundle_is_refused_or_has_the_same_contents(
    tmp_path_factory: pytest.TempPathFactory, place: int, change: int
) -> None:
    """Only the bytes that fill up a block or a header may differ."""
    content = bytearray(written())
    content[place % len(content)] ^= change
    path = tmp_path_factory.mktemp("altered") / "team.tar"
    try:
        bundle = verified(path, bytes(content))
    except Damaged:
        return
    assert {name: archive.content(bundle, name) for name in bundle.members} == CONTENT


def _with(change: Callable[[tarfile.TarFile], None]) -> bytes:
    stream = io.BytesIO()
    with (
        tarfile.open(fileobj=io.BytesIO(written())) as source,
        tarfile.open(fileobj=stream, mode="w", format=tarfile.PAX_FORMAT) as target,
    ):
        for entry in source:
            target.addfile(entry, source.extractfile(entry))
        change(target)
    return stream.getvalue()


def _entry(name: str, **fields: object) -> tarfile.TarInfo:
    entry = tarfile.TarInfo(name)
    for field, value in fields.items():
        setattr(entry, field, value)
    return entry


@pytest.mark.parametrize(
    ("content", "why"),
    [
        (b"", None),
        (b"- tasks: []\n" * 1000, None),
        (gzip.compress(written()), None),
        (written() + b"\0" * 10240, "its end"),
        (written() + b"more" * 2560, "its end"),
        (_with(lambda target: target.addfile(_entry("tool/more.whl"))), "not in bundle.json"),
        (_with(lambda target: target.addfile(_entry("playbook/team.yml"))), "there twice"),
        (
            _with(lambda target: target.addfile(_entry("link", type=tarfile.SYMTYPE, linkname="/etc/passwd"))),
            "not a file",
        ),
        (_with(lambda target: target.addfile(_entry("fifo", type=tarfile.FIFOTYPE))), "not a file"),
        (_with(lambda target: target.addfile(_entry("channels/0/../../x"))), "leads out"),
        (_with(lambda target: target.addfile(_entry("/etc/x"))), "leads out"),
    ],
    ids=[
        "empty",
        "text",
        "compressed",
        "longer",
        "followed",
        "more members",
        "twice",
        "link",
        "fifo",
        "above",
        "absolute",
    ],
)
def test_no_bundle(tmp_path: Path, content: bytes, why: str | None) -> None:
    with pytest.raises(Damaged, match=why):
        verified(tmp_path / "team.tar", content)


def test_a_newer_version_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(archive, "VERSION", 2)
    content = written()
    monkeypatch.undo()
    with pytest.raises(Damaged, match="version 2"):
        verified(tmp_path / "team.tar", content)


def test_before_the_tool_is_there_its_wheels_are_taken_out(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path, folder = tmp_path / "team.tar", tmp_path / "wheels"
    path.write_bytes(written())
    folder.mkdir()
    assert archive.main([str(path), str(folder)]) == 0
    native = f"uv-1.0-py3-none-manylinux_2_17_{os.uname().machine}.whl"
    assert {name.name for name in folder.iterdir()} == {"nbprovision-1.0-py3-none-any.whl", native}
    path.write_bytes(written()[:-100])
    assert archive.main([str(path), str(folder)]) == 1
    assert "its end is missing" in capsys.readouterr().out
