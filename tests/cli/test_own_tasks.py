"""The commands and tasks of the user's own: `run`, `new-task`, `doc`, `task`, `lint`, the Python API, and what travels."""

from __future__ import annotations

import io
import json
import os
import re
import shutil
import subprocess
import sys
import sysconfig
import venv
import zipfile
from pathlib import Path
from typing import Any

import pytest

import nbprovision
from nbprovision import tasks
from nbprovision.bundle.tool import own_wheel
from nbprovision.catalogue import Catalogue
from nbprovision.cli.lint import assumed
from nbprovision.fleet import release
from nbprovision.lifecycle.playbook import examine
from nbprovision.machine.machine import Machine
from tests.support.own_tasks import AS_USER, MOTD, USERS, as_user, install, write_task

__all__ = ["as_user"]

ROOT = Path(nbprovision.__file__).parents[1]
PLAY = "- task_folders: [tasks]\n  tasks:\n    - ensure_motd: {path: motd}\n"
Command = Any


@pytest.fixture
def command(env: dict[str, str], tmp_path: Path) -> Command:
    """Runs a command in ``tmp_path``."""
    env = {name: value for name, value in env.items() if not name.startswith("COVERAGE_")} | {"PYTHONPATH": str(ROOT)}

    def of(
        *words: str, stdin: str = "", argv: list[str] = AS_USER, **variables: str
    ) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [*argv, *words], env=env | variables, cwd=tmp_path, input=stdin, capture_output=True, text=True, check=False
        )

    return of


def written(folder: Path, text: str = MOTD) -> Path:
    write_task(folder / "tasks", text)
    path = folder / "play.yml"
    path.write_text(PLAY)
    return path


class TestRun:
    """`nbprovision run` with tasks of one's own."""

    def test_a_run_with_nothing_to_do_imports_nothing_of_it(self, command: Command, tmp_path: Path) -> None:
        written(tmp_path)
        first = command("run", "play.yml", "--format", "json")
        assert (first.returncode, first.stderr) == (0, "written\n"), "`print` leaves standard output to the document"
        assert json.loads(first.stdout)["status"] == "changed"
        command("run", "play.yml")
        start = "-X", "importtime", "-c", f"{USERS}sys.exit(main(sys.argv[1:]))"
        again = command("run", "play.yml", argv=[sys.executable, *start])
        assert "witnessed" in again.stdout
        for module in (
            "nbprovision.playbook",
            "nbprovision.tasks",
            "importlib.metadata",
            "msgspec",
            "nbprovision_task",
        ):
            assert module not in again.stderr
        assert os.listdir(tmp_path / "tasks") == ["ensure_motd.py"]
        (tmp_path / "tasks/ensure_motd.py").write_text(MOTD + "\n")
        changed = command("run", "play.yml")
        assert (changed.returncode, "witnessed" in changed.stdout) == (0, False)

    def test_another_version_of_a_package_is_looked_at_again(self, command: Command, tmp_path: Path) -> None:
        site = tmp_path / "site"
        record = install(site, "motd-tasks", "1.0", {"ensure_motd": "motd_module:EnsureMotd"}, motd_module=MOTD)
        (tmp_path / "play.yml").write_text("- tasks: [{ensure_motd: {path: motd}}]\n")
        path = f"{ROOT}:{site}"

        def run() -> bool:
            done = command("run", "play.yml", PYTHONPATH=path)
            assert done.returncode == 0, done.stderr
            return "witnessed" in done.stdout

        assert [run(), run(), run()][0::2] == [False, True], "the second may fall into the tick of the first"
        shutil.rmtree(record)
        install(site, "motd-tasks", "1.1", {"ensure_motd": "motd_module:EnsureMotd"}, motd_module=MOTD)
        assert [run(), run(), run()][0::2] == [False, True]
        (site / "motd_module.py").write_text(MOTD + "\n")
        assert not run()

    def test_what_it_prints_is_masked(self, command: Command, tmp_path: Path) -> None:
        text = MOTD.replace('print("written")', 'print("with", machine.env["TOKEN"], sep="-", end="")')
        written(tmp_path, text).write_text(PLAY + "      environment: {TOKEN: canary-of-a-secret}\n")
        done = command("run", "play.yml")
        assert (done.returncode, done.stderr) == (0, "with-****\n")

    def test_a_failure_is_shown_with_its_code_if_asked_for(self, command: Command, tmp_path: Path) -> None:
        written(tmp_path, MOTD.replace('print("written")', "machine.nope()"))
        plain, verbose = command("run", "play.yml"), command("run", "play.yml", "-vvv")
        assert (plain.returncode, verbose.returncode) == (2, 2)
        assert re.search(r"ensure_motd.py:36:\d+: ensure_motd: apply\(\) raised AttributeError", plain.stdout)
        assert "Traceback" not in plain.stdout + plain.stderr
        assert "AttributeError: 'Machine' object has no attribute 'nope'" in verbose.stdout + verbose.stderr

    def test_after_a_restart_it_does_its_work_again(self, command: Command, tmp_path: Path, home: Path) -> None:
        """Its code may have changed more than the files that a start could put back for it."""
        path = written(tmp_path)
        path.write_text(PLAY.replace("path: motd", "path: ~/motd"))
        for _ in range(3):
            assert command("run", "play.yml").returncode == 0
        home.rename(tmp_path / "gone")
        home.mkdir()
        (result,) = json.loads(command("run", "play.yml", "--format", "json").stdout)["tasks"]
        assert [change["action"] for change in result["changes"]] == ["write"], "not `restore`"

    def test_a_failure_names_the_line_of_the_task(self, command: Command, tmp_path: Path) -> None:
        written(tmp_path, MOTD.replace("if not self.text:", "if self.txt:"))
        for words in (["run"], ["run", "--check"], ["lint"]):
            done = command(*words, "play.yml")
            assert done.returncode == 4
            said = done.stdout + done.stderr
            assert "tasks/ensure_motd.py:24:" in said
            assert "check() raised AttributeError: 'EnsureMotd' object has no attribute 'txt'" in said
            assert "Traceback" not in said

    def test_root_is_refused_everywhere(self, command: Command, tmp_path: Path) -> None:
        written(tmp_path, "raise SystemExit('it was executed')")
        as_root = [sys.executable, "-c", USERS.replace("os.getuid() or 1000", "0") + "sys.exit(main(sys.argv[1:]))"]
        parameters = '{"path": "motd"}'
        for words, status in (
            (["run", "play.yml", "--check"], 4),
            (["lint", "play.yml"], 4),
            (["doc", "ensure_motd", "--playbook", "play.yml"], 4),
            (["task", "ensure_motd", "--task-folder", "tasks"], 4),
        ):
            done = command(*words, argv=as_root, stdin=parameters)
            assert done.returncode == status, done.stdout + done.stderr
            if os.getuid() == 0:  # others are refused as they own the file that root would obey
                assert "root does not use task_folders" in done.stdout + done.stderr
            assert "it was executed" not in done.stdout + done.stderr


class TestNewTask:
    """`nbprovision new-task`."""

    def test_it_writes_a_task_that_runs(self, command: Command, tmp_path: Path) -> None:
        done = command("new-task", "ensure_some_note")
        assert (done.returncode, done.stderr) == (0, "")
        assert sorted(os.listdir(tmp_path / "tasks")) == ["ensure_some_note.py", "test_ensure_some_note.py"]
        play = done.stdout.split("in a playbook of this folder:\n")[1].split("\n\n")[0]
        (tmp_path / "play.yml").write_text(play.replace("~/notes.txt", "notes.txt"))
        runs = [command("run", "play.yml", *words).stdout for words in (["--check"], [], [], [])]
        assert [text.splitlines()[-1 - ("nothing was" in text)].split(" (")[0] for text in runs] == [
            "localhost : ok=0 changed=1 skipped=0 failed=0 deferred=0",
            "localhost : ok=0 changed=1 skipped=0 failed=0 deferred=0",
            "localhost : ok=1 changed=0 skipped=0 failed=0 deferred=0",
            "localhost : ok=1 changed=0 skipped=0 failed=0 deferred=0",
        ]
        assert (tmp_path / "notes.txt").read_text() == "Hello\n"
        assert command("lint", "play.yml").returncode == 0

    def test_both_run_in_an_environment_of_their_own(self, command: Command, tmp_path: Path) -> None:
        """With nbprovision's wheel; only what it needs and pytest are those of the tests."""
        venv.create(tmp_path / "venv")
        (packages,) = (tmp_path / "venv").glob("lib/python*/site-packages")
        zipfile.ZipFile(io.BytesIO(own_wheel()[1])).extractall(packages)
        (packages / "others.pth").write_text(sysconfig.get_path("purelib") + "\n")
        program = [str(tmp_path / "venv/bin/python"), "-c"]
        for run, words in (
            ("main(sys.argv[1:])", ["new-task", "ensure_some_note"]),
            ("__import__('pytest').main(sys.argv[1:])", ["-q", "-p", "no:cacheprovider", "tasks"]),
        ):
            done = command(*words, argv=[*program, f"{USERS}sys.exit({run})"], PYTHONPATH="")
            assert done.returncode == 0, done.stdout + done.stderr
        assert "3 passed" in done.stdout
        where = command(argv=[*program, "import nbprovision; print(nbprovision.__file__)"], PYTHONPATH="").stdout
        assert where.startswith(str(packages))

    def test_what_it_writes_is_clean(self, command: Command, tmp_path: Path) -> None:
        command("new-task", "ensure_some_note")
        ruff = [sys.executable, "-m", "ruff"]
        for words in (["check", "--select=E,F,W,I,UP,B"], ["format", "--check"]):
            done = command(*words, "--line-length=120", "tasks", argv=ruff)
            assert done.returncode == 0, done.stdout
        mypy = command("--strict", "tasks/ensure_some_note.py", argv=[sys.executable, "-m", "mypy"], MYPYPATH=str(ROOT))
        assert mypy.returncode == 0, mypy.stdout

    def test_it_overwrites_nothing(self, command: Command, tmp_path: Path) -> None:
        (tmp_path / "mine").mkdir()
        (tmp_path / "mine/test_ensure_motd.py").write_text("mine")
        done = command("new-task", "ensure_motd", "--folder", "mine")
        assert (done.returncode, done.stdout) == (5, "")
        assert "mine/test_ensure_motd.py exists" in done.stderr
        assert os.listdir(tmp_path / "mine") == ["test_ensure_motd.py"]

    @pytest.mark.parametrize(
        ("name", "cure"),
        [
            ("motd", "new-task ensure_motd"),
            ("ensure-motd", "new-task ensure_motd"),
            ("EnsureMotd", "new-task ensure_motd"),
            ("ensure_motd.py", "new-task ensure_motd_py"),
            ("ensure_", "new-task ensure_motd"),
            ("ensure_2x", "new-task ensure_motd"),
            ("../ensure_x", "new-task ensure_x"),
            ("ensure_file", "use another name"),
        ],
    )
    def test_the_name_is_checked(self, command: Command, tmp_path: Path, name: str, cure: str) -> None:
        done = command("new-task", name)
        assert done.returncode == 5
        assert cure in done.stderr
        assert not (tmp_path / "tasks").exists()


class TestOthers:
    """`doc`, `task`, `lint`, `schema` and the Python API."""

    def test_doc_shows_it(self, command: Command, tmp_path: Path) -> None:
        written(tmp_path)
        done = command("doc", "ensure_motd", "--playbook", "play.yml")
        assert (done.returncode, done.stderr) == (0, "")
        for text in (
            "Greet every user",
            "path  (a string; required)",
            "The message.",
            "write  the file",
            "Good morning",
        ):
            assert text in done.stdout
        assert "ensure_motd  tasks/ensure_motd.py" in command("doc", "--playbook", "play.yml").stdout
        assert command("doc", "ensure_motd").returncode == 5
        assert "### ensure_motd" in command("doc", "ensure_motd", "--playbook", "play.yml", "--format=markdown").stdout

    def test_task_runs_it(self, command: Command, tmp_path: Path) -> None:
        written(tmp_path)
        words = "task", "ensure_motd", "--task-folder", "tasks"
        for status, more in (("changed", ["--check"]), ("changed", []), ("ok", [])):
            done = command(*words, *more, stdin='{"path": "motd"}')
            assert (done.returncode, json.loads(done.stdout)["status"]) == (0, status)
        wrong = command(*words, stdin='{"path": "motd", "txt": 1}')
        assert (wrong.returncode, json.loads(wrong.stdout)["status"]) == (4, "failed")
        assert "<stdin>:1:18: ensure_motd has no parameter 'txt'" in wrong.stderr
        missing = command("task", "ensure_motd", "--task-folder", "nowhere", stdin="{}")
        assert (missing.returncode, "the folder nowhere does not exist" in missing.stderr) == (4, True)
        assert command("task", "ensure_motd", stdin="{}").returncode == 5

    def test_lint_knows_it(self, command: Command, tmp_path: Path) -> None:
        path = written(tmp_path)
        assert command("lint", "play.yml").returncode == 0
        path.write_text(PLAY.replace("path:", "pth:"))
        done = command("lint", "play.yml", "--format", "json")
        found = [(one["rule"], one["line"], one["column"]) for one in json.loads(done.stdout)["findings"]]
        assert (done.returncode, ("unknown-parameter", 3, 21) in found) == (4, True)

    def test_a_package_is_known_without_a_playbook(self, command: Command, tmp_path: Path) -> None:
        site = tmp_path / "site"
        install(site, "motd-tasks", "1.0", {"ensure_motd": "motd_module:EnsureMotd"}, motd_module=MOTD)
        path = f"{ROOT}:{site}"
        assert "Greet every user" in command("doc", "ensure_motd", PYTHONPATH=path).stdout
        assert "ensure_motd  of the package motd-tasks 1.0" in command("doc", PYTHONPATH=path).stdout
        done = command("task", "ensure_motd", stdin='{"path": "motd"}', PYTHONPATH=path)
        assert json.loads(done.stdout)["status"] == "changed"
        assert "ensure_motd" in json.loads(command("schema", PYTHONPATH=path).stdout)["definitions"]
        code = f"import nbprovision; print(nbprovision.ensure_motd(path={str(tmp_path / 'motd')!r}).status)"
        done = command(argv=[sys.executable, "-c", code], PYTHONPATH=path)
        assert done.stdout == "ok\n", done.stderr
        unknown = command(argv=[sys.executable, "-c", "import nbprovision; nbprovision.ensure_motd"])
        assert "has no attribute 'ensure_motd'" in unknown.stderr


class TestTravelling:
    """The files of tasks go with the playbook."""

    def test_they_go_into_a_script_and_a_release(self, tmp_path: Path, as_user: None, machine: Machine) -> None:
        path = written(tmp_path)
        write_task(tmp_path / "tasks", kind="ensure_unused")
        write_task(tmp_path / "unused/deep", kind="ensure_nothing")
        path.write_text(PLAY.replace("[tasks]", "[tasks, unused/deep]"))
        notebook = assumed("notebook-instance", {"HOME": "/home/me"}, Path("/"))
        payload = examine(path, notebook, Catalogue(), {}).payload
        assert sorted(payload.files) == ["play.yml", "tasks/ensure_motd.py", "unused/deep/ensure_nothing.py"]
        made = release.make("team", path, machine, lambda: machine, Catalogue())
        assert made.files == 3

    def test_a_folder_above_the_playbook(self, tmp_path: Path, as_user: None, monkeypatch: pytest.MonkeyPatch) -> None:
        write_task(tmp_path / "team/tasks")
        write_task(tmp_path / "team/unused", kind="ensure_unused")
        path = tmp_path / "team/plays/play.yml"
        path.parent.mkdir()
        path.write_text(PLAY.replace("[tasks]", "[../tasks, ../unused]"))
        monkeypatch.chdir(path.parent)
        for name in (Path("play.yml"), path):
            payload = examine(name, Machine(home=tmp_path / "home"), Catalogue(), {}).payload
            assert sorted(payload.files) == ["plays/play.yml", "tasks/ensure_motd.py", "unused/ensure_unused.py"]

    def test_they_run_where_they_arrive(
        self, command: Command, tmp_path: Path, as_user: None, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        path = written(tmp_path / "here")
        monkeypatch.chdir(tmp_path / "here")
        payload = examine(Path(path.name), Machine(home=tmp_path / "home"), Catalogue(), {}).payload
        for name, content in payload.files.items():
            there = tmp_path / "there" / name
            there.parent.mkdir(parents=True, exist_ok=True)
            there.write_bytes(content)
        done = command("run", "there/play.yml")
        assert (done.returncode, (tmp_path / "there/motd").read_text()) == (0, "Good morning\n")

    def test_a_package_is_named(self, tmp_path: Path, as_user: None, monkeypatch: pytest.MonkeyPatch) -> None:
        site = tmp_path / "site"
        install(site, "motd-tasks", "1.0", {"ensure_motd": "motd_travels:EnsureMotd"}, motd_travels=MOTD)
        monkeypatch.syspath_prepend(str(site))
        path = tmp_path / "play.yml"
        path.write_text("- tasks: [{ensure_motd: {path: motd}}]\n")
        checked = examine(path, Machine(home=tmp_path / "home"), Catalogue(), {})
        assert checked.notes == (
            f"{path}:1:12: ensure_motd is of the package motd-tasks 1.0, which must be installed beside nbprovision there",
        )

    def test_a_mistake_in_a_task_has_its_plain_path(self, tmp_path: Path, as_user: None) -> None:
        path = written(tmp_path, MOTD.replace("def apply", "def aply"))
        with pytest.raises(nbprovision.InvalidPlaybook) as caught:
            examine(path, Machine(home=tmp_path / "home"), Catalogue(), {})
        assert str(caught.value).startswith(f"{tmp_path}/tasks/ensure_motd.py:12:1: EnsureMotd has no apply()")


def test_the_api_for_tasks_is_what_it_was() -> None:
    """A name that is removed or renamed here breaks the tasks of others: think of a way around it."""
    assert tasks.__all__ == [
        "AnyOf", "Change", "Duration", "Excludes", "Input", "Machine", "Needs", "OneOf", "ParameterError", "Plan",
        "ProvisionError", "Requires", "Resource", "Strings", "Task", "TaskFailed", "as_list", "make_folder", "parameter",
        "read_bytes", "read_text", "remove", "run", "write_atomically",
    ]  # fmt: skip
    assert all(hasattr(tasks, name) for name in tasks.__all__)
    machine = Machine({"HOME": "/home/me"}, home=Path("/home/me/tool"))
    assert (machine.path("~/x"), machine.user_home, machine.env["HOME"]) == (
        Path("/home/me/x"),
        Path("/home/me"),
        "/home/me",
    )
    assert machine.prefix_of("/opt/env") == Path("/opt/env")
    assert machine.platform.kind == "other"
    machine.report(x=1)
    machine.progress("half", 1, 2)
    machine.note("the server is unreachable")
