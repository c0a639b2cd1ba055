"""The page of a run, as text and in a real browser."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nbprovision.cli import report
from nbprovision.machine.machine import Machine
from nbprovision.machine.platform import Platform
from nbprovision.model.result import Change
from nbprovision.report import history, page
from nbprovision.report.history import KeptRun, KeptTask
from tests.support.browser import assert_readable, browser, needs_chromium
from tests.support.html_document import Document
from tests.support.planted import folder, reachable_folder, root_only, users_folder

SCRIPT = "<script>alert(1)</script>"
MACHINE = {
    "kernels": [
        {"name": "team", "display_name": "Team <1>", "prefix": "/envs/team", "program": "/envs/team/bin/python",
         "program_exists": True, "hidden_by": None},
        {"name": "old", "display_name": None, "prefix": None, "program": "/gone/python", "program_exists": False,
         "hidden_by": None},
    ],
    "space": [{"path": "/home/ec2-user/SageMaker", "total": 5_000_000_000, "free": 500_000_000}],
}  # fmt: skip
PACKAGES = tuple(
    Change("install", f"package-{number}", before=None, after=f"{number}.0", kind="package", channel="conda-forge")
    for number in range(40)
)
RUN = KeptRun(
    id="20260131-093000", playbook=f"/home/ec2-user/SageMaker/{SCRIPT}/a-rather-long-name-of-a-playbook.yml", digest="a",
    started=1_769_851_800, seconds=200.0, status="failed", check=False, hook="on-start", version="1.2.3",
    counts={"ok": 1, "changed": 2, "failed": 1, "skipped": 0}, left_out=("Slow",),
    tasks=(
        KeptTask(name="Environment", task="ensure_conda_env", status="changed", seconds=150.0, changes=PACKAGES),
        KeptTask(name="ensure_file", task="ensure_file", status="changed", seconds=0.01, changes=(
            Change("write", "/etc/motd", before="old\nsame\n", after=f"{SCRIPT}\nsame\n", kind="file"),
            Change("chmod", "/etc/motd", before="0644", after="0600"),
        )),
        KeptTask(name="Kernel", task="ensure_kernel", status="failed", seconds=1.0, message=f"no {SCRIPT}",
                 cause="why\non two lines", cure="do that", place="team.yml:3:5"),
        KeptTask(name="Line", task="ensure_line", status="ok", seconds=0.0, warnings=("mind <this>",)),
    ),
)  # fmt: skip


def html(run: KeptRun = RUN, *, drift: bool = True, listed: bool = True) -> str:
    tasks = [run.tasks[1]] if drift else []
    return page.of_run(run, drift=tasks, machine=MACHINE, log="/home/log", listed=listed)


def test_it_says_what_failed_why_and_what_to_do() -> None:
    text = " ".join(Document(html()).text.split())
    assert "no <script>alert(1)</script> why: why on two lines fix: do that team.yml:3:5" in text
    for words in (
        "3 min 20 s", "on-start script", "2 changed", "1 failed", "run 20260131-093000, nbprovision 1.2.3",
        "package-39 - 39.0 conda-forge", "-old", "+<script>alert", "chmod /etc/motd : 0644 -> 0600", "mind <this>", "Left out by", "Slow",
        "Team <1>", "cannot start: /gone/python is missing", "500 MB of 5.0 GB left on", "Changed since the last run",
    ):  # fmt: skip
        assert words in text, words
    assert "0 skipped" not in text


def test_it_has_no_script_and_nothing_from_elsewhere() -> None:
    document = Document(html())
    assert not {"script", "img", "link", "iframe", "object", "form"} & set(document.tags)
    assert [value for name, value in document.attributes if name in ("src", "href")] == ["index.html"]
    assert not [name for name, _ in document.attributes if name.startswith("on")]
    assert "default-src 'none'" in html()
    assert re.search(r"@import|url\(", html()) is None


def test_a_page_of_its_own_leads_nowhere() -> None:
    assert "href" not in html(listed=False)


@given(st.text(), st.text(), st.sampled_from(["package", "file", "other"]))
def test_any_text_stays_text(first: str, second: str, kind: Any) -> None:
    change = Change(first, second, before=second, after=first, kind=kind, channel=first)
    task = KeptTask(
        name=first, task=second, status="changed", seconds=0, changes=(change,), warnings=(first,), message=second
    )
    usual, strange = (Document(html(run, drift=False)) for run in (RUN, KeptRun(**{**_fields(RUN), "tasks": (task,)})))
    assert set(strange.tags) <= set(usual.tags)
    assert {name for name, _ in strange.attributes} <= {name for name, _ in usual.attributes}


def _fields(run: KeptRun) -> dict[str, Any]:
    return {name: getattr(run, name) for name in run.__struct_fields__}


def test_the_list_of_runs_leads_to_each() -> None:
    document = Document(page.of_runs([RUN, KeptRun(**{**_fields(RUN), "id": "20260130-093000", "check": True})]))
    assert [value for name, value in document.attributes if name == "href"] == [
        "20260131-093000.html",
        "20260130-093000.html",
    ]
    assert "(check)" in document.text


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0, "0.00 s"),
        (0.004, "0.00 s"),
        (9.99, "9.99 s"),
        (12.34, "12.3 s"),
        (99.9, "99.9 s"),
        (100, "1 min 40 s"),
        (7261, "121 min 1 s"),
    ],
)
def test_durations(seconds: float, text: str) -> None:
    assert page.duration(seconds) == text


class TestCommand:
    @pytest.fixture
    def playbook(self, tmp_path: Path) -> Path:
        path = tmp_path / "team.yml"
        path.write_text(f"- tasks:\n    - ensure_file: {{path: '{tmp_path}/made', content: x}}\n")
        return path

    def nbprovision(self, env: dict[str, str], *words: object) -> subprocess.CompletedProcess[str]:
        argv = [sys.executable, "-m", "nbprovision", *map(str, words)]
        return subprocess.run(argv, env=env, capture_output=True, text=True)

    def test_the_id_of_status_gives_the_page(self, playbook: Path, env: dict[str, str], tmp_path: Path) -> None:
        for content in ("x", "y"):
            playbook.write_text(playbook.read_text().replace("content: x", f"content: {content}"))
            assert self.nbprovision(env, "run", playbook).returncode == 0
        status = self.nbprovision(env, "status").stdout
        match = re.search(r"last full run (\S+): changed", status)
        assert match is not None, status
        done = self.nbprovision(env, "report")
        path = Path(done.stdout.strip())
        assert (path.stem, path.parent) == (match[1], Path(env["NBPROVISION_HOME"]) / "report")
        pages = sorted(path.parent.iterdir())
        assert [entry.name for entry in pages[-1:]] == ["index.html"]
        assert len(pages) == 3
        (first,) = (entry.stem for entry in pages[:2] if entry != path)
        older = self.nbprovision(env, "report", first, "-o", tmp_path / "older.html")
        assert older.stdout.strip() == str(tmp_path / "older.html")
        assert "+x" in (tmp_path / "older.html").read_text()

    def test_the_machine_is_looked_at_once_for_all_pages(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        for _ in range(5):
            kept = history.keep(tmp_path, KeptRun(**{**_fields(RUN), "id": ""}))
        looks: list[Machine] = []
        monkeypatch.setattr(report.facts, "document", lambda machine: (looks.append(machine), MACHINE)[1])
        assert report.write_pages(Machine(home=tmp_path), kept).is_file()
        assert len(list((tmp_path / "report").glob("*.html"))) == 6
        assert len(looks) == 1

    def test_pages_of_runs_that_are_gone_go(self, playbook: Path, env: dict[str, str]) -> None:
        self.nbprovision(env, "run", playbook)
        folder = Path(self.nbprovision(env, "report").stdout.strip()).parent
        (folder / "20200101-000000.html").write_text("old")
        (folder / "mine.html").write_text("mine")
        self.nbprovision(env, "report")
        assert not (folder / "20200101-000000.html").exists()
        assert (folder / "mine.html").exists()

    def test_run_writes_it_as_well(self, playbook: Path, env: dict[str, str], tmp_path: Path) -> None:
        for deadline in ([], ["--deadline", "60"]):
            (tmp_path / "made").unlink(missing_ok=True)
            done = self.nbprovision(env, "run", playbook, "--report", tmp_path / "page.html", *deadline)
            assert done.returncode == 0, done.stderr
            assert "+x" in (tmp_path / "page.html").read_text()
            (tmp_path / "page.html").unlink()

    def test_a_failed_run_has_one_too(self, env: dict[str, str], tmp_path: Path) -> None:
        (tmp_path / "bad.yml").write_text("- tasks:\n    - ensure_command: {argv: ['false']}\n")
        done = self.nbprovision(env, "run", tmp_path / "bad.yml", "--report", tmp_path / "page.html")
        assert done.returncode == 2
        assert "What failed" in (tmp_path / "page.html").read_text()

    def test_a_missing_folder_is_refused_before_anything_changes(
        self, playbook: Path, env: dict[str, str], tmp_path: Path
    ) -> None:
        done = self.nbprovision(env, "run", playbook, "--report", tmp_path / "no/page.html")
        assert done.returncode == 5
        assert "its folder does not exist" in done.stderr
        assert not (tmp_path / "made").exists()

    def test_without_a_run_it_says_so(self, env: dict[str, str]) -> None:
        done = self.nbprovision(env, "report")
        assert done.returncode == 5
        assert "no run is kept yet" in done.stderr


@root_only
def test_root_writes_no_page_into_a_users_folder() -> None:
    with reachable_folder() as base:
        machine = Machine(home=base / "tool")
        for volume, expected in (
            (folder(base / "mine"), base / "mine/nbprovision-report"),
            (users_folder(base), base / "tool/report"),
        ):
            machine.platform = Platform("notebook-instance", "", volume, None)
            assert report.folder_of(machine) == expected


@needs_chromium
@pytest.mark.parametrize(
    ("width", "height", "scheme"), [(1280, 900, "light"), (400, 800, "dark"), (768, 1024, "light")]
)
def test_it_can_be_read(width: int, height: int, scheme: Any, tmp_path: Path) -> None:
    path = tmp_path / "run.html"
    path.write_text(html())
    assert_readable(path, width, height, scheme, tmp_path)


@needs_chromium
def test_on_paper_everything_is_shown(tmp_path: Path) -> None:
    path = tmp_path / "run.html"
    path.write_text(html())
    with browser(1280, 900, tmp_path) as driver:
        driver.get(path.as_uri())
        driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"media": "print"})
        hidden = "return [...document.querySelectorAll('td')].filter(e => !e.checkVisibility()).length"
        assert driver.execute_script(hidden) == 0
