"""A playbook that is invalid at a start: the one that last succeeded brings kernels, indexes and configuration back."""

from __future__ import annotations

import fcntl
import json
import os
import shutil
import signal
import subprocess
import sys
import sysconfig
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from nbprovision.model.errors import InvalidPlaybook, TaskFailed
from nbprovision.report import activity
from nbprovision.report.progress import TEXT_FILE, ProgressFiles
from nbprovision.state import last_good
from nbprovision.system.places import boot_id
from tests.conftest import Channel

pytestmark = pytest.mark.sampled(3)

ROOT = Path(__file__).parents[2]
ON_START = last_good.Start("on-start")
PLAYBOOK = """\
- vars_files: [[site.yml, team.yml]]
  tasks:
    - import_tasks: tasks/common.yml
    - ensure_conda_env:
        name: demo
        channels: [{url}]
        packages: ["python={python}.*", ipykernel]
    - ensure_kernel: {{env: demo, display_name: "{{{{ team }}}} of {{{{ floor }}}}"}}
    - ensure_pip_index: {{url: "https://{{{{ password }}}}@pypi.example/simple"}}
"""
COMMON = """\
- ensure_file: {path: ~/.config/team.conf, content: "team={{ team }}\\n"}
"""


class Start:
    """An instance of which the volume survives: the playbook and the tool's home, but not the user's home folder."""

    def __init__(self, env: dict[str, str], folder: Path, playbook: str) -> None:
        hidden = ("INDEX", "NBPROVISION_PHASE")
        self.env = {name: value for name, value in env.items() if not any(word in name for word in hidden)}
        self.home, self.tool, self.folder = Path(env["HOME"]), Path(env["NBPROVISION_HOME"]), folder / "volume"
        self.playbook = self.folder / "play.yml"
        self.python = sys.executable
        for name, text in {
            "play.yml": playbook,
            "tasks/common.yml": COMMON,
            "team.yml": "{team: fraud, password: swordfish}\n",
            "floor.yml": "{floor: third}\n",
        }.items():
            (self.folder / name).parent.mkdir(parents=True, exist_ok=True)
            (self.folder / name).write_text(text)

    def run(
        self, *words: str, hook: bool | str = True, status: int = 0, playbook: str = "play.yml", own: str = ""
    ) -> subprocess.CompletedProcess[str]:
        imported = f"{ROOT}{os.pathsep}{sysconfig.get_path('purelib')}"
        phase = "on-start" if hook is True else hook or ""
        env = {**self.env, "PYTHONPATH": imported, **({"NBPROVISION_PHASE": phase} if phase else {})}
        env |= {"NBPROVISION_USER_PLAYBOOK": str(self.folder / own)} if own else {}
        argv = [self.python, "-m", "nbprovision", "run", playbook, "-e", "@floor.yml", *words]
        done = subprocess.run(argv, env=env, capture_output=True, text=True, check=False, cwd=self.folder)
        assert done.returncode == status, done.stdout + done.stderr
        return done

    def status(self) -> str:
        env = {**self.env, "PYTHONPATH": str(ROOT)}
        return subprocess.check_output([self.python, "-m", "nbprovision", "status"], env=env, text=True)

    def restart(self) -> None:
        for entry in self.home.iterdir():
            shutil.rmtree(entry) if entry.is_dir() else entry.unlink()

    def configured(self) -> dict[str, str]:
        """Kernels, index and file of the user."""
        found = {}
        for place in (".local/share/jupyter/kernels/demo/kernel.json", ".config/pip/pip.conf", ".config/team.conf"):
            path = self.home / place
            found[place] = path.read_text() if path.exists() else ""
        return found

    @property
    def kept(self) -> list[Path]:
        return sorted(self.tool.glob("last-good/*"))


@pytest.fixture(scope="module")
def volume(channel: Channel, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Start]:
    """A start that succeeded, with an environment, a kernel, an index and a file."""
    folder = tmp_path_factory.mktemp("instance")
    (folder / "home").mkdir()
    env = {
        "HOME": str(folder / "home"),
        "PATH": "/usr/local/bin:/usr/bin:/bin",
        "NBPROVISION_HOME": str(folder / "tool"),
    }
    start = Start(env, folder, PLAYBOOK.format(url=channel.url, python=channel.python))
    start.run()
    yield start
    shutil.rmtree(folder)


@pytest.fixture
def light(env: dict[str, str], tmp_path: Path) -> Start:
    """An instance whose playbook writes one file."""
    return Start(env, tmp_path, "- vars_files: team.yml\n  tasks: [import_tasks: tasks/common.yml]\n")


def misspell_a_task(folder: Path) -> None:
    playbook = folder / "play.yml"
    playbook.write_text(playbook.read_text().replace("ensure_kernel", "ensure_kernle"))


def empty_the_playbook(folder: Path) -> None:
    (folder / "play.yml").write_text("")


def remove_the_playbook(folder: Path) -> None:
    (folder / "play.yml").unlink()


def remove_an_included_file(folder: Path) -> None:
    (folder / "tasks/common.yml").unlink()


def harm_a_file_of_variables(folder: Path) -> None:
    (folder / "team.yml").write_text("team: [fraud\n")


def harm_a_file_of_extra_variables(folder: Path) -> None:
    (folder / "floor.yml").write_text("{floor: third\n")


def add_a_file_that_is_read_first(folder: Path) -> None:
    (folder / "site.yml").write_text("- not a mapping\n")


FAULTS = [
    misspell_a_task,
    empty_the_playbook,
    remove_the_playbook,
    remove_an_included_file,
    harm_a_file_of_variables,
    harm_a_file_of_extra_variables,
    add_a_file_that_is_read_first,
]


@pytest.mark.parametrize("harm", FAULTS)
def test_everything_comes_back_by_the_playbook_that_last_succeeded(harm: Callable[[Path], None], volume: Start) -> None:
    sound = volume.folder.with_name("sound")
    shutil.copytree(volume.folder, sound)
    wanted = volume.configured()
    assert all(wanted.values())
    assert "fraud of third" in "".join(wanted.values())
    inode = (volume.tool / "envs/demo/conda-meta/history").stat().st_ino
    try:
        volume.restart()
        harm(volume.folder)
        volume.run(status=4)
        assert not any(volume.configured().values()), "an invalid playbook alone changes nothing"
        done = volume.run("--last-good")
        first = done.stderr.splitlines()[0]
        assert first.startswith("the playbook is invalid; using the one that last succeeded, of 20")
        assert "failed=0" in done.stdout.splitlines()[-1], "the recap is as ever"
        assert volume.configured() == wanted
        assert (volume.tool / "envs/demo/conda-meta/history").stat().st_ino == inode, "the environment is kept"
        volume.run("--last-good", "--deadline", "60")
        volume.run(status=4)
    finally:
        shutil.rmtree(volume.folder)
        sound.rename(volume.folder)
        volume.run()


def test_a_start_by_an_earlier_playbook_proves_nothing_of_the_one_in_its_place(light: Start) -> None:
    """Corrected, it is carried out, however much the earlier one has proven."""
    light.run()
    light.playbook.write_text("- tasks: [ensure_nothing: {}]\n")
    for _ in range(2):
        assert "witnessed" not in light.run("--last-good").stdout
    light.playbook.write_text('- tasks: [ensure_file: {path: ~/other, content: "new\\n"}]\n')
    light.run()
    assert (light.home / "other").read_text() == "new\n"
    light.playbook.unlink()
    (light.home / "other").unlink()
    light.run("--last-good")
    assert (light.home / "other").exists(), "now that one is the last that succeeded"


@pytest.mark.parametrize(
    ("words", "hook"),
    [([], False), (["--check"], True), (["--tags", "all"], True), (["--skip-tags", "x"], True)],
    ids=["at a terminal", "check", "tags", "skip-tags"],
)
def test_only_the_whole_run_of_a_hook_is_kept(words: list[str], hook: bool, light: Start) -> None:
    light.run(*words, hook=hook)
    assert light.kept == []
    light.run(hook=True)
    assert len(light.kept) == 1, "also where all is in place already"


def test_a_run_that_fails_does_not_replace_what_is_kept(light: Start) -> None:
    light.run()
    (before,) = (path.read_bytes() for path in light.kept)
    light.playbook.write_text('- tasks: [ensure_command: {argv: ["false"], creates: /nowhere}]\n')
    light.run(status=2)
    assert [path.read_bytes() for path in light.kept] == [before]


def test_what_is_kept_is_for_the_user_alone_and_written_once(light: Start) -> None:
    light.run()
    (path,) = light.kept
    assert path.stat().st_mode & 0o777 == 0o600
    assert path.parent.stat().st_mode & 0o777 == 0o700
    assert {file.name for file in last_good.read(light.tool, light.playbook, ON_START).content} == {
        "play.yml", "common.yml", "team.yml", "floor.yml",
    }  # fmt: skip
    inode = path.stat().st_ino
    assert "witnessed" in light.run().stdout
    light.run("--no-witness")
    assert path.stat().st_ino == inode
    (light.folder / "team.yml").write_text("{team: risk, password: x}\n")
    light.run()
    assert [kept for kept in light.kept if kept.stat().st_ino != inode] == light.kept


def test_work_that_ended_in_the_background_is_kept_too(light: Start) -> None:
    light.playbook.write_text('- tasks: [ensure_command: {shell: "sleep 2; touch made", chdir: ., creates: made}]\n')
    light.run("--deadline", "0.5", status=7)
    while not (light.folder / "made").exists():
        time.sleep(0.05)
    with (light.tool / "lock").open() as lock:
        fcntl.flock(lock, fcntl.LOCK_SH)
    assert len(light.kept) == 1


def test_the_slot_of_the_tool_that_ended_a_run_with_0_is_the_good_one(light: Start) -> None:
    light.tool.mkdir()
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", light.tool / "venv.2"], check=True)
    light.python = str(light.tool / "venv.2/bin/python")
    good = light.tool / "venv.good"
    light.run("--check")
    assert not good.is_symlink()
    light.run()
    assert good.readlink() == Path("venv.2")
    good.unlink()
    light.playbook.write_text('- tasks: [ensure_command: {argv: ["false"], creates: /nowhere}]\n')
    light.run(status=2)
    assert not good.is_symlink()
    light.run("--last-good")
    assert good.readlink() == Path("venv.2"), "the tool did well; it was the playbook that failed"


class TestWhatIsNotObeyed:
    def test_nothing_is_kept(self, light: Start) -> None:
        done = light.run("--last-good", status=4)
        assert "no earlier play.yml can be used in its place" in done.stderr
        assert "nbprovision lint play.yml" in done.stderr

    def test_a_terminal_never_falls_back(self, light: Start) -> None:
        light.run()
        light.playbook.write_text("")
        light.run(hook=False, status=4)
        assert "--last-good is for lifecycle scripts" in light.run("--last-good", hook=False, status=5).stderr

    @pytest.mark.parametrize("harm", ["a byte", "cut", "empty", "link", "writable", "of another playbook", "a folder"])
    def test_a_copy_that_is_damaged_or_foreign(self, harm: str, light: Start) -> None:
        light.run()
        (path,) = light.kept
        data = path.read_bytes()
        if harm == "a byte":
            path.write_bytes(data.replace(b"fraud", b"freud"))
        elif harm == "cut":
            path.write_bytes(data[:-1])
        elif harm == "empty":
            path.write_bytes(b"")
        elif harm == "link":
            path.rename(light.folder / "planted")
            path.symlink_to(light.folder / "planted")
        elif harm == "writable":
            path.chmod(0o666)
        elif harm == "a folder":
            path.unlink()
            path.mkdir()
        else:
            other = light.folder / "other.yml"
            path.rename(last_good.path_of(light.tool, other))
            shutil.copy(last_good.path_of(light.tool, other), path)
            with pytest.raises(InvalidPlaybook, match=r"no earlier .*other\.yml"):
                last_good.read(light.tool, other, last_good.Start("on-start", other))
            return
        light.restart()
        assert "is not used: " in light.run("--last-good", status=4).stderr
        assert list(light.home.iterdir()) == []

    @pytest.mark.skipif(os.getuid() != 0, reason="only root can give files away")
    def test_a_copy_of_another_user(self, light: Start) -> None:
        light.run()
        (path,) = light.kept
        os.chown(path, 12345, 12345)
        assert "another user may have written it" in light.run("--last-good", status=4).stderr


def a_file(folder: Path, name: str, written: str) -> None:
    """A playbook of this name that writes the file ``~/WRITTEN``."""
    (folder / name).write_text(f'- tasks: [ensure_file: {{path: ~/{written}, content: "x\\n"}}]\n')


class TestAnotherPlaybookOfTheTeam:
    """The script names another playbook than it did, and that one is invalid or missing."""

    @pytest.mark.parametrize(
        "text", ["- tasks: [ensure_nothing: {}]\n", "", None], ids=["misspelt", "empty", "missing"]
    )
    @pytest.mark.parametrize("words", [[], ["--deadline", "60"]], ids=["here", "in a process of its own"])
    def test_what_last_succeeded_under_this_hook_is_used_and_named(
        self, words: list[str], text: str | None, light: Start
    ) -> None:
        light.run()
        wanted = light.configured()
        light.restart()
        light.playbook.rename(light.folder / "gone.yml")
        if text is not None:
            (light.folder / "new.yml").write_text(text)
        light.run(playbook="new.yml", status=4)
        done = light.run("--last-good", *words, playbook="new.yml")
        assert f"the playbook is invalid; using the team's {light.playbook} that last succeeded" in done.stderr
        assert light.configured() == wanted

    def test_its_own_comes_first_and_then_the_newest(self, light: Start) -> None:
        for name in ("a.yml", "b.yml", "c.yml"):
            a_file(light.folder, name, name)
            light.run(playbook=name)
        light.run("--no-witness", playbook="b.yml")
        light.restart()
        light.run("--last-good", playbook="new.yml")
        assert [path.name for path in light.home.iterdir() if path.is_file()] == ["b.yml"], "it succeeded last"
        light.restart()
        (light.folder / "a.yml").unlink()
        light.run("--last-good", playbook="a.yml")
        assert [path.name for path in light.home.iterdir() if path.is_file()] == ["a.yml"]

    def test_never_the_users_own_nor_another_hooks(self, light: Start) -> None:
        a_file(light.folder, "mine.yml", "mine")
        light.run(playbook="mine.yml", own="mine.yml")
        a_file(light.folder, "create.yml", "create")
        light.run(playbook="create.yml", hook="on-create")
        for own in ("mine.yml", "", "other.yml"):
            told = light.run("--last-good", own=own, playbook="new.yml", status=4).stderr
            assert "nor has one of another playbook of the team's under on-start" in told
        light.run("--last-good", hook="on-create", playbook="new.yml")

    def test_the_users_own_is_replaced_by_itself_only(self, light: Start) -> None:
        light.run()
        told = light.run("--last-good", playbook="mine.yml", own="mine.yml", status=4).stderr
        assert "no earlier mine.yml can be used in its place" in told
        a_file(light.folder, "mine.yml", "mine")
        light.run(playbook="mine.yml", own="mine.yml")
        (light.folder / "mine.yml").unlink()
        light.restart()
        assert "using the one that last" in light.run("--last-good", playbook="mine.yml", own="mine.yml").stderr
        assert (light.home / "mine").exists()

    def test_what_was_the_teams_and_is_the_users_now_does_not_count(self, light: Start) -> None:
        """It need not have run since, so that the copy still says that it was the team's."""
        light.run()
        assert "no earlier new.yml" in light.run("--last-good", playbook="new.yml", own="play.yml", status=4).stderr

    @pytest.mark.parametrize("harm", ["a byte", "writable", "renamed"])
    def test_a_copy_that_is_damaged_or_foreign_is_passed_over(self, harm: str, light: Start) -> None:
        a_file(light.folder, "old.yml", "old")
        light.run(playbook="old.yml")
        before = set(light.kept)
        light.run()
        (path,) = set(light.kept) - before
        if harm == "a byte":
            path.write_bytes(path.read_bytes().replace(b"fraud", b"freud"))
        elif harm == "writable":
            path.chmod(0o666)
        else:
            path.rename(path.with_name("0.kept"))
        light.restart()
        light.run("--last-good", playbook="new.yml")
        assert [one.name for one in light.home.iterdir() if one.is_file()] == ["old"]


class TestWhatKeepingMeets:
    def test_a_full_disk_does_not_fail_the_run(self, light: Start) -> None:
        if os.geteuid() != 0 or not shutil.which("mount"):
            pytest.skip("needs to mount a small file system")
        full = light.tool / "last-good"
        full.mkdir(parents=True)
        small = ["mount", "-t", "tmpfs", "-o", "size=64k,mode=700", "tmpfs", str(full)]
        if subprocess.run(small, capture_output=True).returncode != 0:
            pytest.skip("may not mount a small file system")
        try:
            light.run()
            (before,) = (path.read_bytes() for path in light.kept)
            (light.folder / "team.yml").write_text("team: x\n" + "# padding\n" * 9000)
            for _ in range(2):
                done = light.run()
                assert (
                    "warning: cannot keep this playbook as a fallback for a start at which it is invalid" in done.stderr
                )
                assert "witnessed" not in done.stdout, "the next start tries again"
            assert [path.read_bytes() for path in light.kept] == [before]
        finally:
            subprocess.run(["umount", full], check=True)

    def test_a_playbook_too_large_leaves_what_was_kept(self, tmp_path: Path) -> None:
        playbook = tmp_path / "play.yml"
        last_good.keep(tmp_path, playbook, {playbook: b"small"}, ON_START)
        with pytest.raises(TaskFailed, match="cannot keep"):
            last_good.keep(tmp_path, playbook, {playbook: bytes(last_good.LARGEST)}, ON_START)
        assert last_good.read(tmp_path, playbook, ON_START).content == {playbook: b"small"}

    def test_of_many_playbooks_the_last_are_kept(self, tmp_path: Path) -> None:
        for number in range(last_good.MOST + 5):
            last_good.keep(tmp_path, tmp_path / f"{number}.yml", {}, ON_START)
            os.utime(last_good.path_of(tmp_path, tmp_path / f"{number}.yml"), (number, number))
        assert len(list(tmp_path.glob("last-good/*"))) == last_good.MOST
        last_good.read(tmp_path, tmp_path / f"{last_good.MOST + 4}.yml", ON_START)

    def test_killed_at_any_operation_one_whole_copy_is_there(self, tmp_path: Path) -> None:
        """The one before, or the new one."""
        playbook = tmp_path / "play.yml"
        program = (
            "import sys, os; from pathlib import Path; from tests.reliability.faults import Faults\n"
            "from nbprovision.state import last_good\n"
            "home = Path(sys.argv[1]); faults = Faults(str(home), int(sys.argv[2]), sys.argv[3])\n"
            "sys.addaudithook(faults.heard); last_good.keep(home, home / 'play.yml', {home / 'play.yml': b'new'}, last_good.Start('on-start'))\n"
        )
        outcomes = set()
        for mode in ("before", "in"):
            for number in range(1, 30):
                shutil.rmtree(tmp_path / "last-good", ignore_errors=True)
                last_good.keep(tmp_path, playbook, {playbook: b"old"}, ON_START)
                words = [sys.executable, "-c", program, str(tmp_path), str(number), mode]
                status = subprocess.run(words, cwd=ROOT, start_new_session=True).returncode
                outcomes.add(last_good.read(tmp_path, playbook, ON_START).content[playbook])
                if status == 0:
                    break
                assert status == -signal.SIGKILL
            assert number > 1
        assert outcomes == {b"old", b"new"}


def test_the_document_of_a_run_is_as_ever(light: Start) -> None:
    light.run()
    light.playbook.unlink()
    done = light.run("--last-good", "--format", "json")
    assert json.loads(done.stdout)["status"] == "ok"


FAULT = "play.yml:1:11: unknown task 'ensure_filee'; did you mean 'ensure_file'?"


@pytest.mark.parametrize("words", [[], ["--deadline", "60"]], ids=["at once", "in another process"])
def test_what_is_wrong_with_the_playbook_is_shown_after_a_fallback(words: list[str], light: Start) -> None:
    light.run()
    light.playbook.write_text("- tasks: [ensure_filee: {path: ~/x}]\n")
    light.run(*words, status=4)
    light.run("--last-good", *words)
    record, _ = activity.read(light.tool) or pytest.fail("no record")
    assert (record.state, record.status, record.fallback) == ("failed", 4, "playbook")
    assert record.message.startswith("used the last good playbook, of 20")
    assert record.why.startswith(FAULT)
    shown = light.status()
    assert shown.splitlines()[0].startswith(f"failed: {light.playbook} (on-start, ")
    assert f"\n  why: {FAULT}" in shown
    logged = [json.loads(line) for line in (light.tool / "log/nbprovision.log").read_text().splitlines()]
    assert {one["event"] for one in logged if FAULT in one.get("why", "")} == {"invalid", "fallback"}
    files = ProgressFiles(light.tool, light.folder, record, [])
    files.ended(record)
    told = (light.folder / TEXT_FILE).read_text()
    assert told.startswith("failed: ")
    assert f"\n  why: {FAULT}" in told
    light.playbook.write_text("- tasks: [import_tasks: tasks/common.yml]\n  vars_files: team.yml\n")
    light.run(*words)
    assert "why: " not in light.status()


def test_a_fault_that_only_carrying_it_out_brings_to_light_is_shown_as_well(light: Start) -> None:
    light.run()
    light.playbook.write_text("- tasks: [ensure_pip_pkg: {env: nowhere, packages: [apple]}]\n")
    light.run(status=4)
    light.run("--last-good")
    assert "\n  why: play.yml:1:" in light.status()
    assert "'nowhere'" in light.status()


def test_no_secret_shows_in_the_fault(light: Start) -> None:
    light.run()
    light.playbook.write_text(
        "- tasks: [ensure_flie: {url: 'https://me:swordfish@x.example/'}, 'https://me:swordfish@y']\n"
    )
    light.run(status=4)
    light.run("--last-good")
    for path in (light.tool / "status.json", light.tool / "log/nbprovision.log"):
        assert "swordfish" not in path.read_text()


class TestTheUsersOwn:
    """A lifecycle script carries out the team's playbook, then the user's own."""

    def own(self, light: Start, text: str) -> str:
        path = light.folder / "own.yml"
        path.write_text(text)
        light.env["NBPROVISION_USER_PLAYBOOK"] = str(path)
        return str(path)

    @pytest.mark.parametrize("words", [[], ["--deadline", "60"]], ids=["at once", "in another process"])
    @pytest.mark.parametrize("own", ["ok", "witnessed", "failed", "invalid"])
    def test_does_not_hide_how_the_teams_ended(self, own: str, words: list[str], light: Start) -> None:
        name = self.own(light, '- tasks: [ensure_file: {path: ~/own, content: "x"}]\n')
        if own == "witnessed":
            light.run(playbook=name)
            light.run(playbook=name)
        harmed = {"failed": "- tasks: [ensure_command: {shell: 'exit 1'}]\n", "invalid": "- tasks: [ensure_flie: {}]\n"}
        if own in harmed:
            self.own(light, harmed[own])
        status = {"failed": 2, "invalid": 4}.get(own, 0)
        light.playbook.write_text("- tasks: [ensure_command: {shell: 'echo no licence >&2; exit 1'}]\n")
        light.run(*words, status=2)
        time.sleep(0.01)  # the log knows milliseconds
        light.env["NBPROVISION_FALLBACK"] = "both"
        light.run(*words, playbook=name, status=status)
        del light.env["NBPROVISION_FALLBACK"]
        shown = light.status()
        assert shown.splitlines()[0].startswith(f"failed: {light.playbook} (on-start, "), shown
        assert "no licence" in shown.splitlines()[0]
        record, _ = activity.read(light.tool) or pytest.fail("no record")
        assert (record.playbook, record.status) == (str(light.playbook), 2)
        if own != "witnessed":
            assert record.user_playbook is not None
            assert (record.user_playbook.playbook, record.user_playbook.status) == (name, status)
            assert record.user_playbook.fallback == "tool", "the playbook that was replaced was the team's"
            assert f"\n  the user's own playbook: {'failed' if status else 'ok'}: {name} (on-start, " in shown
        light.playbook.write_text("- tasks: [ensure_command: {argv: ['true']}]\n")
        light.run(*words)
        assert light.status().startswith(f"ok: {light.playbook} (")

    def test_that_is_killed_leaves_the_teams_as_well(self, light: Start) -> None:
        name = self.own(light, "- tasks: [ensure_command: {shell: 'kill -9 $PPID; sleep 9'}]\n")
        light.playbook.write_text("- tasks: [ensure_command: {shell: 'exit 1'}]\n")
        light.run(status=2)
        light.run(playbook=name, status=-9)
        shown = light.status()
        assert shown.startswith(f"interrupted: {name}, ")
        assert f"\n  the team's playbook: failed: {light.playbook} (on-start, " in shown
        self.own(light, "- tasks: [ensure_command: {shell: 'exit 0'}]\n")
        light.run(playbook=name)
        assert light.status().startswith(f"failed: {light.playbook} (on-start, ")

    def test_of_another_boot_has_a_record_of_its_own(self, light: Start) -> None:
        light.playbook.write_text("- tasks: [ensure_command: {shell: 'exit 1'}]\n")
        light.run(status=2)
        record = light.tool / "status.json"
        record.write_text(record.read_text().replace(boot_id(), "0" * 36))
        name = self.own(light, "- tasks: [ensure_command: {shell: 'exit 0'}]\n")
        light.run(playbook=name)
        assert light.status().startswith(f"ok: {name} (on-start, ")
