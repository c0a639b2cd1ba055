"""After a restart of the machine all of HOME is gone, and the environments are kept: what comes back, and at what cost."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from nbprovision.__main__ import main
from nbprovision.system import unfinished
from tests.conftest import Channel
from tests.support.wheels import make_wheel

pytestmark = pytest.mark.engine

# What takes long to import and is not needed; structlog and filelock are.
HEAVY = {"asyncio", "email", "importlib.metadata", "jinja2", "packaging", "rattler", "rich", "ruamel", "sh", "tomlkit"}
# Runs the command in its own process, and tells what it started and imported, and where it wrote.
WATCHED = """
import json, os, sys
seen = []
STARTS = ("subprocess.", "os.fork", "os.posix_spawn", "os.exec", "os.system", "socket.connect")
def hook(name, args):
    if name.startswith(STARTS):
        seen.append(["process", name])
    elif name == "open" and isinstance(args[2], int) and args[2] & (os.O_WRONLY | os.O_RDWR):
        seen.append(["write", os.fspath(args[0]) if not isinstance(args[0], int) else ""])
sys.addaudithook(hook)
from nbprovision.__main__ import main
status = main(sys.argv[1:])
print(json.dumps({"status": status, "seen": seen, "modules": sorted(sys.modules)}))
"""


def watched(env: dict[str, str], playbook: Path) -> tuple[dict[str, Any], dict[str, Any]]:
    """The document of a run, and what was seen of its process."""
    done = subprocess.run(
        [sys.executable, "-c", WATCHED, "run", str(playbook), "--format", "json"],
        env=env, capture_output=True, text=True, check=True, cwd="/",
    )  # fmt: skip
    document, _, seen = done.stdout.rstrip().rpartition("\n")
    return json.loads(document), json.loads(seen)


def contents(home: Path) -> dict[Path, list[bytes]]:
    """The lines of all files; the list of environments has them in the order in which they were finished."""
    return {
        path.relative_to(home): sorted(path.read_bytes().splitlines()) for path in home.rglob("*.*") if path.is_file()
    }


@pytest.fixture
def playbook(tmp_path: Path, channel: Channel) -> Path:
    for name in ("alpha", "beta"):
        make_wheel(tmp_path / "index" / name, name, "1.0")
        wheel = f"{name}-1.0-py3-none-any.whl"
        (tmp_path / "index" / name / "index.html").write_text(f"<a href='{wheel}'>{wheel}</a>")
    url = (tmp_path / "index").as_uri()
    tasks = [f"ensure_pip_index: {{url: '{url}', find_links: {url}/alpha}}"]
    for env in ("one", "two"):
        tasks += [
            f"ensure_conda_env: {{name: {env}, channels: ['{channel.url}'], packages: [python={channel.python}, ipykernel]}}",
            f"ensure_pip_index: {{scope: env, env: {env}, url: '{url}'}}",
            f"ensure_pip_pkg: {{env: {env}, packages: [alpha==1.0, beta]}}",
            f"ensure_kernel: {{env: {env}, environment: {{LEVEL: '1'}}}}",
        ]
    path = tmp_path / "playbook.yml"
    path.write_text("- tasks:\n" + "".join(f"    - {task}\n" for task in tasks))
    return path


def test_what_was_lost_comes_back_and_nothing_else_is_touched(env: dict[str, str], playbook: Path) -> None:
    home = Path(env["HOME"])
    document, _ = watched(env, playbook)
    assert document["counts"]["failed"] == 0, document
    before = contents(home)
    home.rename(home.with_name("gone"))  # so that the new one has another inode
    home.mkdir()

    document, process = watched(env, playbook)
    assert process["status"] == 0
    changed = {(task["task"], task["status"], task["proof"]) for task in document["tasks"][1:]}
    # The user's own files are new, and say what they said. A look at those of an environment is not always spared: it costs
    # no process either.
    assert changed - {("ensure_pip_index", "ok", "check"), ("ensure_pip_index", "ok", "witness")} == {
        ("ensure_conda_env", "changed", "check"),  # conda's list of environments
        ("ensure_pip_pkg", "ok", "witness"),
        ("ensure_kernel", "changed", "check"),
    }
    assert contents(home) == before
    # The plan of no task is made, so neither the playbook's reader nor any task is imported.
    assert {change["action"] for task in document["tasks"] for change in task["changes"]} == {"restore"}
    assert not {
        name for name in process["modules"] if name.startswith(("yaml", "nbprovision.playbook", "nbprovision.conda"))
    }

    started = [name for what, name in process["seen"] if what == "process"]
    written = [name for what, name in process["seen"] if what == "write"]
    assert started == []
    assert HEAVY & set(process["modules"]) == set()
    prefixes = [str(Path(env["NBPROVISION_HOME"]) / "envs" / name) for name in ("one", "two")]
    assert [path for path in written if path.startswith(tuple(prefixes))] == []

    document, process = watched(env, playbook)
    assert {task["proof"] for task in document["tasks"]} == {"witness"}, "all of it is proven for the next start"
    shutil.rmtree(home.with_name("gone"))


def test_what_lies_beside_an_environment_leaves_it_unmarked(
    env: dict[str, str], playbook: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A kill while a kernel is written is no reason to look at every file of its environment."""
    for name in set(os.environ) - {"PATH"}:
        monkeypatch.delenv(name)
    for name, value in env.items():
        monkeypatch.setenv(name, value)
    assert main(["run", str(playbook)]) == 0
    shutil.rmtree(env["HOME"])
    Path(env["HOME"]).mkdir()
    marked: list[Path] = []
    monkeypatch.setattr(unfinished, "mark", lambda prefix, task: marked.append(prefix))
    assert main(["run", str(playbook)]) == 0
    assert marked == []


def test_in_a_ring_what_was_lost_is_no_drift(env: dict[str, str], playbook: Path) -> None:
    """Neither to a run that puts it back nor to one that plans; a package that is gone from the volume is."""
    home, release = Path(env["NBPROVISION_HOME"]), Path(env["NBPROVISION_HOME"]) / "lifecycle/release"
    release.mkdir(parents=True)
    playbook = playbook.rename(release / "team.yml")
    ring = {"RING": "s3://team/rings/stable", "INSTANCE": "mine", "RELEASE": "a" * 64, "PROVEN": "1"}
    ringed = env | {f"NBPROVISION_{name}": value for name, value in ring.items()}

    def report(*options: str) -> tuple[int, list[str]]:
        command = [sys.executable, "-m", "nbprovision", "run", str(playbook), *options]
        subprocess.run(command, env=ringed, check=True, cwd="/", stdout=subprocess.DEVNULL)
        content = json.loads((home / "instance-report.json").read_text())
        return content["counts"].get("changed", 0), content.get("drift", [])

    report()
    for options in ((), ("--no-witness",)):
        shutil.rmtree(env["HOME"])
        Path(env["HOME"]).mkdir()
        changed, drift = report(*options)
        assert changed >= 4
        assert drift == [], options
    (package,) = (home / "envs/two/lib").glob("python3*/site-packages/alpha-1.0.dist-info")
    shutil.rmtree(package)
    assert report() == (1, ["ensure_pip_pkg"])
    assert report() == (0, [])
