"""The extension in real JupyterLab servers, the oldest and the newest 4, in a real browser.

Their environments are kept in the tests' cache.
"""

from __future__ import annotations

import json
import re
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from nbprovision.report import status_file
from nbprovision.report.status_file import FILE, Fault, Lost, StatusFile, TaskState
from tests.support import on_volume
from tests.support.at_work import until
from tests.support.browser import browser, needs_chromium
from tests.support.jupyter_server import OPTIONS, TOKEN, Server
from tests.support.jupyterlab import VERSIONS, Page, environment

pytestmark = [pytest.mark.proof, pytest.mark.network, needs_chromium]

TASKS = (
    TaskState(name="Environment", task="ensure_conda_env", status="changed", seconds=3.0),
    TaskState(name="<b>Packages</b>", task="ensure_pip_pkg", status="running", text="downloads", done=3, total=12),
    TaskState(name="Kernel", task="ensure_kernel"),
)
FAULT = Fault(message="no such file", why="it was removed", fix="put it back", task="Line", place="team.yml:3:5")
STATES = {
    "ready": StatusFile(state="ready", tasks=TASKS[:1]),
    "working 1 of 3": StatusFile(state="working", tasks=TASKS),
    "in the background 1 of 3": StatusFile(state="background", tasks=TASKS),
    "failed": StatusFile(state="failed", tasks=TASKS, error=FAULT),
    "never run": StatusFile(state="never"),
}


@pytest.fixture(scope="module", params=list(VERSIONS))
def jupyterlab(request: pytest.FixtureRequest, shared_cache: Path) -> Path:
    """The environment of a JupyterLab."""
    return environment(shared_cache, request.param)


class Lab:
    """A user's JupyterLab on a notebook instance, and a browser that shows it."""

    def __init__(self, prefix: Path, env: dict[str, str], folder: Path) -> None:
        self.env = {**env, "PATH": f"{prefix}/bin:{env['PATH']}"}
        self.volume = folder / "SageMaker"
        self.volume.mkdir(exist_ok=True)
        self.home = Path(env["HOME"])
        self.log = folder / "server.log"
        self.prefix = prefix
        self.page: Page

    def nbprovision(self, tasks: str, **options: Any) -> str:
        playbook = self.volume / "team.yml"
        playbook.write_text(f"- tasks:\n{tasks}")
        done = on_volume.nbprovision(self.env, self.volume, "run", playbook)
        assert done.returncode == options.get("status", 0), done.stdout + done.stderr
        return done.stdout

    def serve(self) -> subprocess.Popen[bytes]:
        more = ("--ServerApp.log_level=DEBUG", f"--ServerApp.root_dir={self.volume}", "--LabApp.news_url=None")
        with self.log.open("wb") as log:
            argv = [str(self.prefix / "bin/jupyter-lab"), *OPTIONS, *more]
            return subprocess.Popen(argv, env=self.env, cwd=self.volume, stdout=log, stderr=log)

    def show(self, status: StatusFile) -> None:
        status_file.write(self.volume, status)
        self.page.look_again()

    def requests(self) -> list[str]:
        """The requests that the server has answered so far."""
        return re.findall(r"\b[1-5]\d\d (?:GET|PUT|POST|PATCH|DELETE) /([^ ?]*)", self.log.read_text())

    def looks(self) -> int:
        return self.requests().count(f"api/contents/{FILE}")


@pytest.fixture
def bare(jupyterlab: Path, env: dict[str, str], tmp_path: Path) -> Iterator[Lab]:
    """Without the extension."""
    lab = Lab(jupyterlab, env, tmp_path)
    process = lab.serve()
    try:
        url = Server(lab.home, process.pid).url
        with browser(1280, 900, tmp_path) as driver:
            lab.page = Page(driver, url, TOKEN)
            yield lab
    finally:
        process.terminate()
        process.wait()


@pytest.fixture
def lab(bare: Lab) -> Lab:
    """With the extension, which the task installs while the server runs."""
    before = {path: path.stat().st_mtime_ns for path in bare.prefix.rglob("*") if "__pycache__" not in path.parts}
    bare.nbprovision("    - ensure_jupyter_extension: {name: nbprovision}\n")
    after = {path: path.stat().st_mtime_ns for path in bare.prefix.rglob("*") if "__pycache__" not in path.parts}
    assert before == after, "nothing goes into the server's environment"
    bare.page.open()
    return bare


def test_the_states(lab: Lab) -> None:
    until(lambda: lab.page.item == "nbprovision: ready")
    assert not lab.page.own_cards
    lab.page.open_panel()
    assert "ensure_jupyter_extension" in lab.page.panel
    for text, status in STATES.items():
        lab.show(status)
        until(lambda text=text: lab.page.item == f"nbprovision: {text}")
        assert lab.page.panel.startswith(f"nbprovision: {text}")
        cards = lab.page.own_cards
        assert [card.split("\n")[-1] for card in cards] == ([] if text == "ready" else [f"nbprovision: {text}"])
    assert lab.page.driver.get_log("browser") is not None


def test_a_failure_shows_its_fix_and_the_report(lab: Lab) -> None:
    page = lab.volume / "nbprovision-report/20260131-093000.html"
    page.parent.mkdir()
    page.write_text("<h1>The report</h1>")
    lost = Lost("python3", ("lightgbm 4.6.0", "gdal 3.9"), "nbprovision export python3")
    lab.show(
        StatusFile(
            state="failed",
            tasks=TASKS,
            error=FAULT,
            log="/home/log",
            report=f"{page.parent.name}/{page.name}",
            lost=(lost,),
        )
    )
    until(lambda: lab.page.item.startswith("nbprovision: failed"))
    lab.page.open_panel()
    panel = lab.page.panel
    for line in (
        "Line: no such file", "why: it was removed", "fix: put it back", "at: team.yml:3:5", "Log: /home/log",
        "<b>Packages</b>", "lightgbm 4.6.0, gdal 3.9", "nbprovision export python3",
    ):  # fmt: skip
        assert line in panel, panel
    assert lab.page.script("return document.querySelector('#nbprovision-panel progress').value") == 3
    lab.page.script("document.querySelector('#nbprovision-panel button').click()")
    frame = "return [...document.querySelectorAll('.jp-HTMLViewer iframe')].length"
    until(lambda: lab.page.script(frame))


DAMAGED = (
    None, b"", b"{", b"[]", b"null", b"\xff\xfe", b'{"format": 2, "state": "ready"}', b'{"format": 1, "state": "x"}',
)  # fmt: skip


def test_a_missing_or_broken_file_shows_nothing(lab: Lab) -> None:
    """One file after the other in the same browser: a server and a browser for each would take minutes."""
    until(lambda: lab.page.item_is_shown)
    for damaged in DAMAGED:
        (lab.volume / FILE).unlink()
        if damaged is not None:
            (lab.volume / FILE).write_bytes(damaged)
        lab.page.look_again()
        until(lambda: not lab.page.item_is_shown)
        assert not lab.page.own_cards, damaged
        lab.show(StatusFile(state="failed"))
        until(lambda: lab.page.item_is_shown)


def test_a_run_is_followed_and_its_kernel_appears(lab: Lab) -> None:
    until(lambda: lab.page.item == "nbprovision: ready")
    lab.page.open_panel()
    gates = [lab.volume / name for name in ("first", "second")]
    tasks = "".join(
        f"    - name: {gate.name}\n      ensure_command:\n"
        f"        shell: 'until [ -e {gate} ]; do sleep 0.05; done; touch {gate}.made'\n        creates: {gate}.made\n"
        for gate in gates
    )
    tasks += f"    - ensure_kernel: {{name: team, display_name: The Team, argv: [{lab.prefix}/bin/python, -m, ipykernel_launcher, -f, '{{connection_file}}']}}\n"
    playbook = lab.volume / "long.yml"
    playbook.write_text(f"- tasks:\n{tasks}")
    variables = {**lab.env, "NBPROVISION_HOME": str(lab.volume / ".nbprovision"), "PYTHONPATH": str(on_volume.ROOT)}
    argv = on_volume.argv(lab.volume, "run", playbook)
    with subprocess.Popen(argv, env=variables, stdout=subprocess.DEVNULL) as run:
        until(lambda: json.loads((lab.volume / FILE).read_text())["state"] == "working")
        lab.page.look_again()  # the first look at a new run may take half a minute
        until(lambda: lab.page.item.startswith("nbprovision: working "))
        before = lab.page.item
        assert "running" in lab.page.panel
        assert "The Team" not in str(lab.page.cards)
        gates[0].touch()
        until(lambda: lab.page.item not in (before, ""))
        assert lab.page.item.startswith("nbprovision: working ")
        gates[1].touch()
        assert run.wait() == 0
    until(lambda: lab.page.item == "nbprovision: ready")
    assert "changed" in lab.page.panel
    until(lambda: "The Team" in str(lab.page.cards))  # JupyterLab looks for kernels once a minute


def test_a_hidden_page_asks_for_nothing(lab: Lab) -> None:
    status_file.write(lab.volume, StatusFile(state="working", tasks=TASKS))
    lab.page.look_again()
    before = lab.looks()
    until(lambda: lab.looks() >= before + 3)
    page = lab.page.driver.current_window_handle
    lab.page.driver.switch_to.new_window("tab")
    other = lab.page.driver.current_window_handle
    lab.page.driver.switch_to.window(other)
    time.sleep(1)  # a request on its way
    hidden = lab.looks()
    time.sleep(7)  # three times the interval
    assert lab.looks() == hidden
    lab.page.driver.switch_to.window(page)
    until(lambda: lab.looks() > hidden)


def _kinds(requests: list[str]) -> set[str]:
    return {re.sub(r"[0-9a-f]{8}-[0-9a-f-]{27}|\d+", "*", path) for path in requests}


def test_it_only_asks_for_the_content_of_its_file(bare: Lab) -> None:
    """Compared with all that JupyterLab itself asks for."""

    def asked(ready: Callable[[], object]) -> set[str]:
        bare.page.open()
        until(ready)
        time.sleep(3)
        return _kinds(bare.requests())

    without = asked(lambda: True)
    bare.nbprovision("    - ensure_jupyter_extension: {name: nbprovision}\n")
    more = asked(lambda: bare.looks() and bare.page.item_is_shown) - without
    own = {path for path in more if path.startswith("lab/extensions/nbprovision/static/")}
    assert own
    assert more - own == {f"api/contents/{FILE}"}
