"""How the tests themselves run: a temporary folder for each run, three tiers, and figures that are kept."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import time
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
SUITE = """\
import pytest

def test_plain(tmp_path):
    (tmp_path / "file").write_text("")

@pytest.mark.proof
def test_proof(record_figure):
    record_figure("length of a drill", 1.25, aim=2)

@pytest.mark.campaign
def test_campaign(): pass

@pytest.fixture(scope="session")
def shared(tmp_path_factory):
    folder = tmp_path_factory.mktemp("shared")
    (folder / "file").write_text("")
    return folder

def test_shared(shared, tmp_path, pytestconfig):
    if (pytestconfig.rootpath / "fail").exists():
        (tmp_path / "evidence").write_text("")
        raise AssertionError
"""
SETTINGS = """\
[pytest]
addopts = -p tests.support.bytecode -p tests.support.run_folder -p tests.support.tiers -p tests.support.figures -p xdist -p no:cacheprovider
tmp_path_retention_policy = failed
markers =
    proof
    campaign
    sampled
"""


class Suite:
    """A small project whose tests run as this project's do."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder / "suite"
        self.temporary = folder / "temporary"
        self.cache = folder / "cache"
        for made in (self.folder, self.temporary):
            made.mkdir()
        (self.folder / "test_suite.py").write_text(SUITE)
        (self.folder / "pytest.ini").write_text(SETTINGS)
        self.env = {
            **{name: value for name, value in os.environ.items() if not name.startswith(("PYTEST", "COVERAGE"))},
            "PYTHONPATH": str(ROOT),
            "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1",  # most plugins only take time here
            "TMPDIR": str(self.temporary),
            "NBPROVISION_TEST_CACHE": str(self.cache),
        }

    def start(self, *words: str) -> subprocess.Popen[str]:
        argv = [sys.executable, "-m", "pytest", *words]
        return subprocess.Popen(argv, cwd=self.folder, env=self.env, stdout=subprocess.PIPE, text=True)

    def run(self, *words: str, fail: bool = False) -> str:
        mark = self.folder / "fail"
        mark.touch()
        if not fail:
            mark.unlink()
        process = self.start(*words)
        output, _ = process.communicate(timeout=120)
        assert process.returncode == (1 if fail else 0), output
        return output

    def folders(self, expected: int) -> list[Path]:
        """What the runs left; they end before the removal does."""
        for _ in range(600):
            left = list(self.temporary.iterdir())
            if len(left) == expected:
                break
            time.sleep(0.1)
        assert len(left) == expected, left
        return left


@pytest.fixture
def suite(tmp_path: Path) -> Suite:
    return Suite(tmp_path)


@pytest.mark.parametrize("workers", [(), ("-n", "2")], ids=["one process", "workers"])
def test_a_run_leaves_files_only_after_a_failure(suite: Suite, workers: tuple[str, ...]) -> None:
    suite.run(*workers)
    suite.folders(0)
    output = suite.run(*workers, fail=True)
    (kept,) = suite.folders(1)
    assert f"temporary folders of the failed tests: {kept}" in output
    assert [path.name for path in kept.rglob("evidence")]
    assert not [path for path in kept.rglob("test_plain*") if path.is_dir()], "a passed test's files went with it"


@pytest.mark.parametrize("workers", [(), ("-n", "2")], ids=["one process", "workers"])
def test_what_a_test_imports_first_is_not_among_what_its_process_writes(suite: Suite, workers: tuple[str, ...]) -> None:
    suite.env.pop("PYTHONDONTWRITEBYTECODE", None)
    (suite.folder / "never_compiled.py").write_text("")
    (suite.folder / "test_import.py").write_text(
        "import os, sys\n"
        "def test_import(monkeypatch):\n"
        "    written = []\n"
        "    def hear(event, args):\n"
        "        if event == 'open' and isinstance(args[2], int) and args[2] & (os.O_WRONLY | os.O_RDWR):\n"
        "            written.append(args[0])\n"
        "    monkeypatch.syspath_prepend('.')\n"
        "    sys.addaudithook(hear)\n"
        "    import never_compiled\n"
        "    assert [path for path in written if 'never_compiled' in str(path)] == []\n"
    )
    suite.run("test_import.py", *workers)


def test_the_two_newest_failures_stay(suite: Suite) -> None:
    for _ in range(4):
        suite.run("-k", "shared", fail=True)
    newest = suite.folders(3)  # the last run's own, and two before it
    suite.run("-k", "plain")
    assert set(suite.folders(2)) < set(newest)


def test_runs_at_the_same_time_leave_each_other_alone(suite: Suite) -> None:
    (suite.folder / "test_slow.py").write_text(
        "import pathlib, time\n"
        "def test_slow(tmp_path, pytestconfig):\n"
        "    (tmp_path / 'file').write_text('')\n"
        "    (pytestconfig.rootpath / 'started').touch()\n"
        "    while not (pytestconfig.rootpath / 'go').exists(): time.sleep(0.02)\n"
        "    assert (tmp_path / 'file').exists()\n"
    )
    slow = suite.start("test_slow.py")
    for _ in range(600):
        if (suite.folder / "started").exists():
            break
        time.sleep(0.1)
    for _ in range(3):
        suite.run("test_suite.py", fail=True)
    (suite.folder / "go").touch()
    output, _ = slow.communicate(timeout=120)
    assert slow.returncode == 0, output
    suite.folders(2)


@pytest.mark.parametrize("workers", [(), ("-n", "2")], ids=["one process", "workers"])
def test_a_run_says_what_it_left_out_and_keeps_figures(suite: Suite, workers: tuple[str, ...]) -> None:
    default = suite.run(*workers)
    assert "NOT RUN: 1 proof tests; run them by: sh tests/run.sh -m 'not campaign'" in default
    assert "NOT RUN: 1 campaign tests; run them by: sh tests/campaign.sh" in default
    for chosen in (["-m", "not campaign"], ["test_suite.py"]):
        proof = suite.run(*workers, *chosen)
        assert "3 passed" in proof
        assert "NOT RUN: 1 campaign" in proof
        assert "proof tests" not in proof
        assert "length of a drill: 1.25 s (aim: 2 s)" in proof
    assert json.loads((suite.cache / "figures.json").read_text())["length of a drill"]["value"] == 1.25


@pytest.mark.parametrize("workers", [(), ("-n", "2")], ids=["one process", "workers"])
def test_of_a_sampled_file_the_whole_suite_has_a_part_and_the_campaign_the_rest(
    suite: Suite, workers: tuple[str, ...]
) -> None:
    (suite.folder / "test_suite.py").write_text(
        "import pytest\npytestmark = pytest.mark.sampled(3)\n"
        "@pytest.mark.parametrize('number', range(30))\ndef test_many(number): pass\n"
    )

    def passed(*words: str) -> set[str]:
        output = suite.run(*workers, "-v", *words)
        return set(re.findall(r"test_many\[\d+\]", "".join(line for line in output.splitlines() if "PASSED" in line)))

    part, rest = passed(), passed("-m", "campaign")
    assert part == passed(), "always the same"
    assert 0 < len(part) < len(rest)
    assert (part | rest, part & rest) == ({f"test_many[{number}]" for number in range(30)}, set())
    assert passed("test_suite.py") == part | rest, "who names the file gets all of it"
