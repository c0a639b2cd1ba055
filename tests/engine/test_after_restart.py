"""What the last run wrote to the home is put back at a start, as a run that plans would write it; see after_restart."""

from __future__ import annotations

import json
import os
import random
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from nbprovision.engine import after_restart
from nbprovision.engine.guard import run_lock
from nbprovision.state import effects

pytestmark = pytest.mark.sampled(2)

ROOT = Path(__file__).parents[2]
FAULTS = ROOT / "tests/reliability/faults.py"
BASHRC = "# of the image\n"
TASKS = """\
- tasks:
    - ensure_pip_index: {url: "https://blue.example/simple"}
    - ensure_condarc: {channels: [conda-forge], settings: {remote_max_retries: 5}}
    - ensure_kernel: {name: tool, argv: [/bin/sh, "-c", "exit", "{connection_file}"], environment: {A: b}}
    - ensure_env_var: {name: FRUIT, value: pear, kernels: [tool]}
    - ensure_env_var: {name: SHELLS, value: pear, where: shells}
    - ensure_file: {path: HOME/conf/a.txt, content: "hello\\n", mode: "0600"}
    - ensure_file: {path: HOME/conf/link, state: link, src: HOME/conf/a.txt}
    - ensure_file: {path: HOME/conf/made, state: directory, mode: "0700"}
    - ensure_file: {path: HOME/from-image.txt, state: absent}
    - ensure_line: {path: HOME/conf/b.txt, line: "x = 1", create: true}
    - ensure_line: {path: HOME/conf/b.txt, line: "y = 2", create: true}
    - ensure_block: {path: HOME/.bashrc, block: "export EDITOR=nano"}
    - ensure_git_config: {name: user.email, value: ada@example.org}
"""


class Machine:
    """A machine that can be restarted: all of its home is then what the image brings."""

    def __init__(self, env: dict[str, str]) -> None:
        self.env = {**env, "PYTHONPATH": str(ROOT)}
        self.home, self.tool = Path(env["HOME"]), Path(env["NBPROVISION_HOME"])
        self.playbook = self.home.with_name("playbook.yml")
        self._gone = 0

    def boot(self) -> None:
        self._gone += 1
        self.home.rename(self.home.with_name(f"gone{self._gone}"))  # so that no inode is used again
        self.home.mkdir()
        (self.home / ".bashrc").write_text(BASHRC)
        (self.home / "from-image.txt").write_text("image\n")

    def run(self, *options: str, playbook: str | None = None, status: int = 0) -> dict[str, Any]:
        if playbook is not None:
            self.playbook.write_text(playbook.replace("HOME", str(self.home)))
        done = subprocess.run(
            [sys.executable, "-m", "nbprovision", "run", str(self.playbook), "--format", "json", *options],
            env=self.env, capture_output=True, text=True, check=False, cwd="/",
        )  # fmt: skip
        assert done.returncode == status, done.stdout + done.stderr
        document: dict[str, Any] = json.loads(done.stdout)
        return document

    def provisioned(self, playbook: str = TASKS) -> Machine:
        self.boot()
        self.run(playbook=playbook)
        assert self.run()["status"] == "ok"
        return self

    def files(self) -> dict[str, tuple[int, bytes]]:
        """Every path below the home with its mode and content."""
        return {
            str(path.relative_to(self.home)): (path.lstat().st_mode, _content(path))
            for path in sorted(self.home.rglob("*"))
        }

    @property
    def kept(self) -> list[Path]:
        return list(self.tool.glob("state/*.effects"))


def _content(path: Path) -> bytes:
    if path.is_symlink():
        return os.fsencode(os.readlink(path))
    return path.read_bytes() if path.is_file() else b""


def was_put_back(document: dict[str, Any]) -> bool:
    """Whether a run put back what was lost, without planning."""
    actions = {change["action"] for task in document["tasks"] for change in task["changes"]}
    return actions == {"restore"}


@pytest.fixture
def computer(env: dict[str, str]) -> Machine:
    return Machine(env)


def test_a_restart_is_put_back_and_proven(computer: Machine) -> None:
    before = computer.provisioned().files()
    computer.boot()
    document = computer.run()
    assert was_put_back(document)
    assert computer.files() == before
    assert document["counts"] == {"ok": 0, "changed": 13, "skipped": 0, "failed": 0, "deferred": 0}
    assert {task["proof"] for task in computer.run()["tasks"]} == {"witness"}
    computer.boot()
    assert was_put_back(computer.run()), "the next restart as well"
    assert computer.files() == before
    assert {task["status"] for task in computer.run("--no-witness")["tasks"]} == {"ok"}


def test_a_kernel_is_told_as_one_change(computer: Machine) -> None:
    computer.provisioned().boot()
    (kernel,) = (task for task in computer.run()["tasks"] if task["task"] == "ensure_kernel")
    folder = str(computer.home / ".local/share/jupyter/kernels/tool")
    assert [(change["action"], change["target"]) for change in kernel["changes"]] == [("restore", folder)]


def test_what_a_run_leaves_behind_is_there(computer: Machine) -> None:
    computer.provisioned().boot()
    document = computer.run()
    last = json.loads((computer.tool / "last-run.json").read_text())
    assert {key: last[key] for key in document} == document
    record = json.loads((computer.tool / "status.json").read_text())
    assert (record["state"], record["status"], record["playbook"]) == ("ok", 0, str(computer.playbook))
    log = [json.loads(line) for line in (computer.tool / "log/nbprovision.log").read_text().splitlines()]
    assert [entry["status"] for entry in log[-14:]] == ["changed"] * 14
    assert log[-1]["event"] == "run"
    assert not (computer.tool / "journal").exists()


# What a restart, an image or a user may have made of the home.
def _as_before(home: Path) -> None: ...


def _edited(home: Path) -> None:
    with (home / ".bashrc").open("a") as stream:
        stream.write("alias mine=ls\n")


def _has_line_already(home: Path) -> None:
    (home / "conf").mkdir()
    (home / "conf/b.txt").write_text("y = 2\n")


def _other_image(home: Path) -> None:
    (home / "from-image.txt").unlink()
    (home / ".condarc").write_text("channels: [defaults]\n")


def _folder_in_place(home: Path) -> None:
    (home / "conf/a.txt").mkdir(parents=True)


def _planted_link(home: Path) -> None:
    (home / "elsewhere").mkdir()
    (home / ".config").symlink_to(home / "elsewhere")


def _own_kernel(home: Path) -> None:
    folder = home / ".local/share/jupyter/kernels/tool"
    folder.mkdir(parents=True)
    (folder / "kernel.json").write_text('{"argv": ["mine"], "display_name": "x", "language": "y"}')


def _open_folder(home: Path) -> None:
    (home / "conf/made").mkdir(parents=True)
    (home / "conf/made").chmod(0o755)


@pytest.mark.parametrize(
    "change",
    [_edited, _has_line_already, _other_image, _folder_in_place, _planted_link, _own_kernel, _open_folder],
)
def test_another_home_is_planned_for(computer: Machine, change: Callable[[Path], None]) -> None:
    computer.provisioned()
    computer.boot()
    change(computer.home)
    status = 2 if change is _folder_in_place else 0
    assert not was_put_back(computer.run(status=status))


def test_what_is_put_back_is_what_a_run_that_plans_would_write(computer: Machine) -> None:
    """Parts of the home are there, as after a kill, or changed: each start ends as one that looks at everything."""
    computer.provisioned()
    files = [path for path in computer.home.rglob("*") if path.is_file() and not path.is_symlink()]
    whole = {path: (path.read_bytes(), path.stat().st_mode) for path in files}
    proven = shutil.copytree(computer.tool / "state", computer.tool.with_name("proven"))
    rest, changes = random.Random(1), [_as_before, _as_before, _edited, _other_image, _own_kernel]
    fast = 0
    for _ in range(10):
        present = [path for path in whole if rest.random() < 0.5]
        change = rest.choice(changes)
        ends = []
        for options in ((), ("--no-witness",)):
            computer.boot()
            shutil.copytree(proven, computer.tool / "state", dirs_exist_ok=True)
            for path in present:
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_bytes(whole[path][0])
                path.chmod(whole[path][1] & 0o7777)
            if change is not _own_kernel or not (computer.home / ".local/share/jupyter/kernels/tool").exists():
                change(computer.home)
            document = computer.run(*options)
            fast += was_put_back(document)
            ends.append({name: entry for name, entry in computer.files().items() if "nbprovision-before" not in name})
        assert ends[0] == ends[1]
    assert fast > 1


def test_a_part_that_is_there_already_stays(computer: Machine) -> None:
    """As after a start that was killed while it put things back."""
    before = computer.provisioned().files()
    gone = computer.home.with_name("kept")
    shutil.copytree(computer.home / ".local", gone)
    computer.boot()
    shutil.copytree(gone, computer.home / ".local")
    inode = (computer.home / ".local/share/jupyter/kernels/tool/kernel.json").stat().st_ino
    document = computer.run()
    assert was_put_back(document)
    assert computer.files() == before
    assert (computer.home / ".local/share/jupyter/kernels/tool/kernel.json").stat().st_ino == inode


def test_a_file_in_the_folder_of_a_kernel_gets_a_whole_plan(computer: Machine) -> None:
    computer.provisioned().boot()
    folder = computer.home / ".local/share/jupyter/kernels/tool"
    folder.mkdir(parents=True)
    (folder / "logo.png").write_bytes(b"")
    document = computer.run()
    assert document["counts"]["changed"] == 13
    assert not was_put_back(document)


def test_with_a_full_volume_it_tells_what_it_has_put_back(computer: Machine) -> None:
    before = computer.provisioned().files()
    computer.boot()
    code = (
        "import os, sys; from nbprovision.__main__ import main; from nbprovision.engine import after_restart;"
        "from nbprovision.model.errors import TaskFailed\n"
        "def full(*_, **__): raise TaskFailed('cannot write', cause='the disk is full', cure='free some')\n"
        "after_restart.effects.write = after_restart.document.leave_behind = full\n"
        "sys.exit(main(['run', sys.argv[1], '--format', 'json']))"
    )
    done = subprocess.run([sys.executable, "-c", code, str(computer.playbook)], env=computer.env, capture_output=True,
                          text=True, check=False, cwd="/")  # fmt: skip
    assert was_put_back(json.loads(done.stdout))
    assert done.returncode == 0
    assert "warning: cannot keep the proofs; the next run checks everything again: the disk is full" in done.stderr
    assert computer.files() == before
    assert {task["status"] for task in computer.run()["tasks"]} == {"ok"}
    computer.boot()
    assert was_put_back(computer.run())


SECRETS = {
    "an index with a password": "ensure_pip_index: {url: 'https://ada:hunter22@blue.example/simple'}",
    "a private key": "ensure_file: {path: HOME/key, content: '-----BEGIN PRIVATE KEY-----', mode: '0600'}",
    "a variable with a secret's name": "ensure_env_var: {name: API_TOKEN, value: hunter22, where: shells}",
    "a task with no_log": "{ensure_file: {path: HOME/x, content: hunter22}, no_log: true}",
}


@pytest.mark.parametrize("task", SECRETS.values(), ids=SECRETS)
def test_secrets_are_not_kept(computer: Machine, task: str) -> None:
    computer.provisioned(f"- tasks:\n    - {task}\n    - ensure_file: {{path: HOME/y, content: y}}\n")
    assert computer.kept == []
    written = b"".join(path.read_bytes() for path in computer.tool.rglob("*") if path.is_file())
    assert b"hunter22" not in written
    before = computer.files()
    computer.boot()
    assert not was_put_back(computer.run())
    assert set(before) <= set(computer.files())


DEPEND = {
    "a handler": """\
  tasks:
    - {ensure_file: {path: HOME/a, content: a}, notify: tell}
  handlers:
    - {name: tell, ensure_command: {shell: "echo told >> HOME/told"}}
""",
    "a condition": """\
  tasks:
    - {ensure_file: {path: HOME/a, content: a}, register: written}
    - {ensure_command: {shell: "echo told >> HOME/told"}, when: written is changed}
""",
}


@pytest.mark.parametrize("tasks", DEPEND.values(), ids=DEPEND)
def test_what_depends_on_a_change_is_done_after_a_restart_too(computer: Machine, tasks: str) -> None:
    computer.provisioned(f"- name: p\n{tasks}")
    computer.boot()
    computer.run()
    assert (computer.home / "told").read_text() == "told\n"


def test_what_another_program_wrote_is_left_to_its_task(computer: Machine) -> None:
    computer.provisioned(
        "- tasks:\n    - ensure_command: {shell: 'echo made > HOME/made', creates: HOME/made}\n"
        "    - ensure_file: {path: HOME/a, content: a}\n"
    )
    computer.boot()
    assert not was_put_back(computer.run())
    assert (computer.home / "made").exists()


@pytest.mark.parametrize("option", ["--check", "--diff", "--no-witness", "-v", "--tags=all"])
def test_options_that_need_a_plan_get_one(computer: Machine, option: str) -> None:
    computer.provisioned().boot()
    assert not was_put_back(computer.run(option))


def test_a_changed_playbook_is_read(computer: Machine) -> None:
    computer.provisioned().boot()
    document = computer.run(playbook=TASKS.replace("hello", "goodbye"))
    assert not was_put_back(document)
    assert (computer.home / "conf/a.txt").read_text() == "goodbye\n"
    computer.boot()
    assert was_put_back(computer.run())
    assert (computer.home / "conf/a.txt").read_text() == "goodbye\n"


# A later form of a playbook that finds nothing to do: what the earlier one wrote, it might not write.
A, B = (f"    - ensure_line: {{path: HOME/b, line: {line}, create: true}}\n" for line in "xy")
LATER = {
    "a task less": (A + B, A),
    "another order": (A + B, B + A),
    "a condition": (
        A,
        """\
    - {ensure_line: {path: HOME/b, line: x, create: true}, register: written}
    - {ensure_line: {path: HOME/c, line: z, create: true}, when: written is changed}
""",
    ),
    "a handler": (
        A,
        """\
    - {ensure_line: {path: HOME/b, line: x, create: true}, notify: tell}
  handlers:
    - {name: tell, ensure_line: {path: HOME/c, line: z, create: true}}
""",
    ),
}


@pytest.mark.parametrize("option", [(), ("--check",)], ids=["run", "check"])
@pytest.mark.parametrize(("first", "later"), LATER.values(), ids=LATER)
def test_a_later_playbook_gets_what_it_would_write_itself(
    computer: Machine, first: str, later: str, option: tuple[str, ...]
) -> None:
    computer.provisioned(f"- tasks:\n{first}")
    computer.run(*option, playbook=f"- tasks:\n{later}")
    computer.run(*option)
    proven = shutil.copytree(computer.tool / "state", computer.tool.with_name("proven"))
    ends = []
    for options in ((), ("--no-witness",)):
        computer.boot()
        shutil.copytree(proven, computer.tool / "state", dirs_exist_ok=True)
        computer.run(*options)
        ends.append(computer.files())
    assert ends[0] == ends[1]


def test_what_has_become_a_secret_is_not_kept_any_longer(computer: Machine) -> None:
    computer.provisioned("- tasks:\n    - {ensure_file: {path: HOME/x, content: hunter22}, no_log: false}\n")
    (kept,) = computer.kept
    assert b"hunter22" in kept.read_bytes()
    computer.run(playbook="- tasks:\n    - {ensure_file: {path: HOME/x, content: hunter22}, no_log: true}\n")
    assert computer.kept == []


def test_a_condition_on_what_a_task_makes_holds_again_after_a_restart(computer: Machine) -> None:
    computer.provisioned(
        "- tasks:\n    - {ensure_line: {path: HOME/b, line: x, create: true}, when: \"'HOME/a' is not exists\"}\n"
        "    - ensure_file: {path: HOME/a, content: a}\n"
    )
    computer.run()
    computer.run()
    computer.boot()
    computer.run()
    assert (computer.home / "b").exists()


def test_what_lies_behind_a_link_is_not_overwritten(computer: Machine) -> None:
    volume = computer.home.with_name("volume")
    volume.mkdir()
    computer.provisioned(
        f"- tasks:\n    - ensure_file: {{path: HOME/conf, state: link, src: {volume}}}\n"
        "    - ensure_line: {path: HOME/conf/b, line: x, create: true}\n"
    )
    with (volume / "b").open("a") as stream:
        stream.write("the user's\n")
    computer.boot()
    computer.run()
    assert (volume / "b").read_text() == "x\nthe user's\n"
    assert (computer.home / "conf").is_symlink()


def test_what_a_link_leads_to_is_looked_at(computer: Machine) -> None:
    source = computer.home.with_name("source")
    source.write_text("old\n")
    computer.provisioned(
        f"- tasks:\n    - ensure_file: {{path: HOME/link, state: link, src: {source}}}\n"
        "    - ensure_file: {path: HOME/copy, src: HOME/link}\n"
    )
    source.write_text("new\n")
    computer.boot()
    computer.run()
    assert (computer.home / "copy").read_text() == "new\n"


def test_the_mode_of_a_folder_of_the_image_is_put_back(computer: Machine) -> None:
    def boot() -> None:
        computer.boot()
        (computer.home / "private").mkdir(mode=0o755)

    boot()
    computer.run(playbook="- tasks:\n    - ensure_file: {path: HOME/private, state: directory, mode: '0700'}\n")
    computer.run()
    boot()
    assert was_put_back(computer.run())
    assert (computer.home / "private").stat().st_mode & 0o777 == 0o700


def test_a_task_that_is_no_longer_there_puts_nothing_back(computer: Machine) -> None:
    computer.provisioned()
    computer.run(playbook="".join(TASKS.splitlines(keepends=True)[:4]))
    computer.run()
    computer.boot()
    computer.run()
    assert not (computer.home / "conf").exists()


@pytest.mark.parametrize("mode", ["before", "in"])
def test_a_killed_start_leaves_all_of_it_to_the_next(computer: Machine, mode: str) -> None:
    """Killed before and during operations on the file system, from the first to the last."""
    before = computer.provisioned().files()
    proven = shutil.copytree(computer.tool / "state", computer.tool.with_name("proven"))

    def start(number: int, mode: str) -> int:
        computer.boot()
        shutil.copytree(proven, computer.tool / "state", dirs_exist_ok=True)
        arguments = [str(FAULTS), str(computer.home.parent), str(number), mode, "--", "run", str(computer.playbook)]
        return subprocess.run([sys.executable, *arguments], env=computer.env, start_new_session=True, check=False,
                              stdout=subprocess.DEVNULL, cwd="/").returncode  # fmt: skip

    assert start(0, mode) == 0
    operations = (computer.home.parent / "operations").read_text().split()
    most = int(operations[mode == "in"])
    assert most > 20
    for number in range(1, most + 1, most // 12):
        assert start(number, mode) == -signal.SIGKILL
        computer.run()
        assert {name: entry for name, entry in computer.files().items() if not name.endswith("-before")} == {
            name: entry for name, entry in before.items() if not name.endswith("-before")
        }
        assert {task["proof"] for task in computer.run()["tasks"]} == {"witness"}
        litter = [path for path in computer.home.parent.rglob("*nbprovision-tmp") if "gone" not in str(path)]
        assert litter == []
        assert not (computer.tool / "journal").exists()


@pytest.mark.parametrize("damage", ["cut", "changed", "empty", "a folder", "another's"])
def test_a_damaged_record_is_not_used(computer: Machine, damage: str) -> None:
    before = computer.provisioned().files()
    (record,) = computer.kept
    content = record.read_bytes()
    if damage == "cut":
        record.write_bytes(content[:-100])
    elif damage == "changed":
        record.write_bytes(content.replace(b"hello", b"hullo"))
    elif damage == "empty":
        record.write_bytes(b"")
    elif damage == "a folder":
        record.unlink()
        record.mkdir()
    else:
        record.chmod(0o666)
    computer.boot()
    assert not was_put_back(computer.run())
    assert {name for name in before if "nbprovision-before" not in name} <= set(computer.files())


def test_beside_another_run_it_waits_as_any_run(computer: Machine) -> None:
    computer.provisioned().boot()
    with run_lock(computer.tool, "a test", None, lambda text: None):
        done = subprocess.run(
            [sys.executable, "-m", "nbprovision", "run", str(computer.playbook), "--lock-timeout", "0"],
            env=computer.env, capture_output=True, text=True, check=False, cwd="/",
        )  # fmt: skip
    assert done.returncode == 6
    assert not (computer.home / "conf").exists()


def test_a_folder_that_cannot_be_written_fails_as_in_any_run(computer: Machine) -> None:
    computer.provisioned().boot()
    (computer.home / "conf").write_text("a file\n")
    document = computer.run(status=2)
    assert "failed" in {task["status"] for task in document["tasks"]}


def test_the_record_goes_with_its_state(computer: Machine) -> None:
    computer.provisioned()
    for number in range(25):
        computer.run("-e", f"number={number}")
    assert len(computer.kept) <= len(list(computer.tool.glob("state/*.state"))) == 20


def test_neither_the_playbook_nor_a_task_is_read() -> None:
    code = f"import {after_restart.__name__}, sys; print(*sys.modules)"
    loaded = set(subprocess.check_output([sys.executable, "-c", code], text=True, cwd=ROOT).split())
    assert not loaded & {"yaml", "argparse", "jinja2", "filelock", "sh", "rattler", "rich", "asyncio"}
    assert not {name for name in loaded if name.startswith(("nbprovision.playbook", "nbprovision.machine"))} - {
        "nbprovision.machine", "nbprovision.machine.platform"
    }  # fmt: skip


def test_a_record_is_read_as_written(tmp_path: Path) -> None:
    effect = effects.Effect(os.fsencode(tmp_path / "\udcff"), "-", "file 644 0 x", b"\0\xff", "1 2 3", ("a", "b"))
    effects.write(tmp_path / "state/x.effects", [effect], ["a", "b"])
    assert effects.read(tmp_path / "state/x.effects", ["a", "b"]) == [effect]
    assert effects.read(tmp_path / "state/x.effects", ["b", "a"]) == []
    assert (tmp_path / "state/x.effects").stat().st_mode & 0o777 == 0o600
    effects.write(tmp_path / "state/x.effects", [], [])
    assert not (tmp_path / "state/x.effects").exists()
