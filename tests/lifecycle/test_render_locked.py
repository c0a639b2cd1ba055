"""A script for a playbook on the volume with its lock."""

from __future__ import annotations

import pytest

from nbprovision.__main__ import main

TOOL = ("--tool", "s3://team-bucket/wheels")


@pytest.mark.parametrize("flag", ["--locked", "--frozen"])
def test_the_run_gets_the_flag(flag: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["lifecycle", "render", "/home/ec2-user/SageMaker/team.yml", *TOOL, flag, "-e", "x=1"]) == 0
    assert f"{flag} --extra-vars x=1" in capsys.readouterr().out


@pytest.mark.parametrize("playbook", [["--inline", "team.yml"], ["s3://team-bucket/team.yml"]])
def test_a_playbook_without_its_folder_is_refused(playbook: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["lifecycle", "render", *playbook, *TOOL, "--locked"]) == 5
    assert "the lock is a folder beside the playbook" in capsys.readouterr().err
