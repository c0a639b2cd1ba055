"""A script for a bundle: which options it takes, and the second stage that its first one gets from the bundle."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path
from urllib.parse import quote

import pytest

from nbprovision import __version__
from nbprovision.__main__ import main
from nbprovision.bundle import archive
from nbprovision.lifecycle.render import FIRST_BYTES, ScriptRequest, bootstrap, render
from tests.lifecycle.test_render import fetched, user_part
from tests.support import bundles, moto_server

ON_THE_VOLUME = "/home/ec2-user/SageMaker/team.tar"


def rendered(capsys: pytest.CaptureFixture[str], *words: str, status: int = 0) -> str:
    assert main(["lifecycle", "render", *words]) == status
    printed = capsys.readouterr()
    return printed.err if status else printed.out


def test_it_needs_nothing_else(capsys: pytest.CaptureFixture[str]) -> None:
    script = rendered(capsys, "--bundle", ON_THE_VOLUME, "-e", "x=1", "--user-playbook")
    assert f'sh "$file" {ON_THE_VOLUME} --deadline 236 --extra-vars x=1' in script
    assert "NBPROVISION_SOURCE" not in script
    assert "pip" not in user_part(script), "no index is asked"


def test_another_source_wins(capsys: pytest.CaptureFixture[str]) -> None:
    script = rendered(capsys, "--bundle", ON_THE_VOLUME, "--assets-url", "s3://team/assets")
    assert "s3://team/assets/$1" in script
    assert "NBPROVISION_SOURCE" not in script
    assert "NBPROVISION_SOURCE=/w" in rendered(capsys, "--bundle", ON_THE_VOLUME, "--tool", "/w")


REFUSED = [
    ([], "needs PLAYBOOK, --bundle or --ring", "lists the options"),
    (["team.yml", "--bundle", "/a.tar"], "has a playbook already", "--root-tasks takes a local copy"),
    (["/a.tar", "--tool", "/w"], "PLAYBOOK /a.tar is a bundle", "write --bundle /a.tar"),
    (["--bundle", "/a.zip"], "--bundle /a.zip is not the name of a bundle", "write --bundle /a.zip.tar"),
    (["--bundle", "a.tar"], "neither an absolute path on the machine nor an s3:// URL", "write s3://BUCKET/KEY.tar"),
    (["--bundle", "s3://A/a.tar"], "--bundle s3://A/a.tar is not a URL", "aws s3 ls"),
    (["--bundle="], "--bundle is empty", "leave the option out"),
    (["--bundle", "/a.tar", "--inline"], "--inline has no meaning with --bundle", "leave it out"),
    (["--bundle", "/a.tar", "--locked"], "a bundle is always locked", "leave it out"),
    (["--bundle", "/a.tar", "--frozen"], "a bundle is always locked", "leave it out"),
    (["--bundle", "/a.tar", "--sha256", "0" * 64], "--sha256 has no meaning for --bundle", "digests of all its files"),
]


@pytest.mark.parametrize(("words", "what", "cure"), REFUSED, ids=[" ".join(words) for words, *_ in REFUSED])
def test_what_does_not_go_together_is_refused(
    words: list[str], what: str, cure: str, capsys: pytest.CaptureFixture[str]
) -> None:
    errors = rendered(capsys, *words, status=5)
    assert what in errors
    assert cure in errors


@pytest.fixture
def bundle(tmp_path: Path) -> Path:
    """A bundle without the wheels, which no test here installs."""
    (tmp_path / "none").mkdir()
    return bundles.write(tmp_path / "team.tar", tmp_path / "none")


def test_a_bundle_that_is_here_too_is_checked(bundle: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rendered(capsys, "--bundle", str(bundle))
    with bundle.open("wb") as stream:
        archive.write(stream, {}, {archive.BOOTSTRAP: b"#!/bin/sh\n# of another version\n"})
    assert "was made by another version" in rendered(capsys, "--bundle", str(bundle), status=5)
    os.truncate(bundle, 1000)
    assert "cannot be used" in rendered(capsys, "--bundle", str(bundle), status=5)


def test_the_first_stage_takes_its_file_from_the_bundle_on_the_volume(bundle: Path, tmp_path: Path) -> None:
    done = fetched(render(ScriptRequest(playbook=str(bundle))), tmp_path)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    assert (tmp_path / "got").read_bytes() == bootstrap()


@moto_server.NEEDED
@pytest.mark.proof
def test_the_first_bytes_of_a_bundle_in_a_bucket_are_enough(bundle: Path, tmp_path: Path) -> None:
    assert len(bootstrap()) + 512 < FIRST_BYTES
    with bundle.open("r+b") as stream:  # what follows is never read
        stream.truncate(FIRST_BYTES + 10_000)
    with moto_server.serving() as address:
        moto_server.put(address, "team", quote("books/the team's.tar"), bundle.read_bytes())
        moto_server.make_command(tmp_path / "bin", address)
        done = fetched(render(ScriptRequest(playbook="s3://team/books/the team's.tar")), tmp_path)
        assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
        assert (tmp_path / "got").read_bytes() == bootstrap()
        absent = fetched(render(ScriptRequest(playbook="s3://team/books/other.tar")), tmp_path)
        assert absent.returncode != 0
        assert "NoSuchKey" in absent.stderr


def test_a_bundle_of_another_version_is_said(tmp_path: Path) -> None:
    """The script runs nothing whose digest is another one."""
    bundle = tmp_path / "team.tar"
    with bundle.open("wb") as stream:
        archive.write(stream, {}, {archive.BOOTSTRAP: b"#!/bin/sh\necho it ran\n"})
    script = user_part(render(ScriptRequest(playbook=str(bundle), home=str(tmp_path / "home"))))
    env = {"HOME": str(tmp_path), "PATH": "/usr/bin:/bin"}
    done = subprocess.run(["sh", "-s"], input=script, env=env, capture_output=True, text=True)
    assert done.returncode == 2
    assert f"cannot get bootstrap.sh of nbprovision {__version__} (sha256 " in done.stdout
    assert f"from {bundle}" in done.stdout
    assert "it ran" not in done.stdout
