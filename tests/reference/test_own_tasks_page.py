"""The task of docs/own-tasks.md does what the page says, and the page names what the API has."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

from nbprovision import tasks
from tests.support.own_tasks import AS_USER
from tests.support.pages import ROOT, blocks

PAGE = "docs/own-tasks.md"


def test_its_task_runs(env: dict[str, str], tmp_path: Path) -> None:
    by_name = {block.file_name: block.text for block in blocks(PAGE) if block.file_name}
    (tmp_path / "tasks").mkdir()
    (tmp_path / "tasks/ensure_links.py").write_text(by_name["ensure_links.py"])
    play = by_name["team.yml"].replace("/mnt/datasets", "mount").replace("~/datasets", "datasets")
    (tmp_path / "team.yml").write_text(play)

    env = env | {"PYTHONPATH": str(ROOT)}

    def run(*words: str) -> str:
        done = subprocess.run(
            [*AS_USER, "run", "team.yml", *words], cwd=tmp_path, env=env, capture_output=True, text=True, check=False
        )
        return done.stdout + done.stderr

    assert f"the folder {tmp_path}/mount does not exist" in run()
    for name in ("a", "b"):
        (tmp_path / "mount" / name).mkdir(parents=True)
    assert "changed=1" in run("--check")
    assert not (tmp_path / "datasets").exists()
    assert "changed=1" in run()
    assert (tmp_path / "datasets/b").readlink() == tmp_path / "mount/b"
    assert "ok=1 changed=0" in run()
    (tmp_path / "datasets/b").unlink()
    assert "changed=1" in run()


def test_it_names_everything_that_a_task_may_import() -> None:
    text = (ROOT / PAGE).read_text()
    rows = [line.split("|")[1] for line in text.splitlines() if line.startswith("| `")]
    named = {name for row in rows for name in re.findall(r"`(\w+)`", row)}
    assert set(tasks.__all__) <= named
