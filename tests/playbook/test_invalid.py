"""Wrong playbooks as data: ``data/invalid/NAME.yml``, and what is said of it in ``NAME.txt``."""

from __future__ import annotations

import re
import time
from pathlib import Path

import pytest

from nbprovision.__main__ import main
from nbprovision.model.errors import InvalidPlaybook
from nbprovision.playbook.read import read_playbook
from tests.support.playbook_tasks import CATALOGUE

CASES = sorted((Path(__file__).parents[1] / "data/invalid").glob("*.yml"))


def test_there_are_enough() -> None:
    """As many as the reliability goals ask for."""
    assert len(CASES) >= 60


@pytest.mark.parametrize("case", CASES, ids=lambda path: path.stem)
def test_the_exact_message(case: Path) -> None:
    """Each is refused with its own words, quickly, as an invalid playbook (exit status 4) with a position."""
    began = time.process_time()  # of this process: a bomb would take minutes on any machine
    with pytest.raises(InvalidPlaybook) as caught:
        read_playbook(case, CATALOGUE, {}, {"platform": "other"}, env={})
    told = str(caught.value).replace(str(case), "PLAYBOOK").replace(f"{case.parent}/", "")
    assert told == case.with_suffix(".txt").read_text().rstrip("\n")
    assert caught.value.exit_status == 4
    assert caught.value.position is not None
    assert time.process_time() - began < 60


# What is wrong with this is wrong with the tasks of this test alone; the real ones name an environment that is not there.
REAL = [case for case in CASES if case.stem != "vars_files_list"]


@pytest.mark.parametrize("case", REAL, ids=lambda path: path.stem)
def test_by_the_command_line(
    case: Path, env: dict[str, str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Exit status 4 with a place, no traceback, and nothing on the disk that was not there before."""
    for name, value in env.items():
        monkeypatch.setenv(name, value)
    status = main(["run", str(case), "-vvv"])
    told = "".join(capsys.readouterr())
    assert status == 4, told
    assert re.search(rf"{re.escape(str(case))}:\d+:\d+: ", told), told
    assert "Traceback" not in told
    assert not Path(env["NBPROVISION_HOME"]).exists()
    assert not list(Path(env["HOME"]).iterdir())
