"""Tasks of the author's own: where a play finds them, and what is said of their mistakes."""

from __future__ import annotations

import importlib.metadata
import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from nbprovision.catalogue import Catalogue
from nbprovision.model.errors import InvalidPlaybook, TaskFailed
from nbprovision.playbook.calls import Playbook
from nbprovision.playbook.faults import single_faults
from nbprovision.playbook.own_tasks import Kinds
from nbprovision.playbook.read import read_playbook
from nbprovision.playbook.yaml_nodes import Files
from tests.support.own_tasks import MOTD, as_user, install, write_task

__all__ = ["as_user"]

KINDS = {"ensure_motd": "EnsureMotd", "ensure_news": "EnsureNews"}
PLAY = "- task_folders: tasks\n  tasks:\n    - ensure_motd: {path: motd}\n"


@pytest.fixture
def read(tmp_path: Path, as_user: None) -> Any:
    """Reads a playbook given as text."""

    def of(text: str = PLAY, **options: Any) -> Playbook:
        path = tmp_path / "play.yml"
        path.write_text(text)
        return read_playbook(path, Catalogue(), **({"facts": {"platform": "other"}, "env": {}} | options))

    return of


def refused(read: Any, text: str = PLAY, **options: Any) -> tuple[str, str]:
    """The fault of a playbook, and its place as ``name:line:column``."""
    with pytest.raises(InvalidPlaybook) as caught:
        read(text, **options)
    (fault,) = single_faults(caught.value)
    assert fault.position is not None, fault
    place = f"{Path(fault.position.file).name}:{fault.position.line}:{fault.position.column}"
    return fault.text, place


def test_a_task_of_a_folder_is_as_any_other(read: Any, tmp_path: Path) -> None:
    path = write_task(tmp_path / "tasks")
    (tmp_path / "tasks/helper.py").write_text("this is no task")
    playbook = read(PLAY.replace("motd}", "'{{ 1 + 1 }}'}"))
    (call,) = playbook.plays[0].calls
    assert (call.kind, call.task.path, call.task.text) == ("ensure_motd", str(tmp_path / "2"), "Good morning")
    assert list(playbook.content) == [tmp_path / "play.yml", path], "it is a file of the playbook"
    assert playbook.plays[0].task_folders == (tmp_path / "tasks",)
    assert sorted(os.listdir(tmp_path / "tasks")) == ["ensure_motd.py", "helper.py"], "nothing is written beside it"


def test_parameters_are_checked_with_their_positions(read: Any, tmp_path: Path) -> None:
    write_task(tmp_path / "tasks")
    play = PLAY.replace("{path: motd}", "{path: motd, txt: x}")
    assert refused(read, play) == ("ensure_motd has no parameter 'txt'; did you mean 'text'?", "play.yml:3:33")
    play = PLAY.replace("{path: motd}", "{path: motd, text: ''}")
    assert refused(read, play) == ("ensure_motd: it is empty\nwrite a text", "play.yml:3:39")
    assert refused(read, PLAY.replace("{path: motd}", ""))[0].startswith("ensure_motd needs 'path'")
    text, place = refused(read, PLAY.replace("ensure_motd", "ensure_mtod"))
    assert (text, place) == ("unknown task 'ensure_mtod'; did you mean 'ensure_motd'?", "play.yml:3:7")


def test_a_changed_file_is_another_task(read: Any, tmp_path: Path) -> None:
    write_task(tmp_path / "tasks")
    first = read().plays[0].calls[0].task
    assert type(read().plays[0].calls[0].task) is type(first)
    write_task(tmp_path / "tasks", MOTD.replace("Good morning", "Good evening"))
    second = read().plays[0].calls[0].task
    assert (first.text, second.text) == ("Good morning", "Good evening")
    assert type(first).origin.code != type(second).origin.code


def test_threads_read_it_side_by_side(read: Any, tmp_path: Path) -> None:
    write_task(tmp_path / "tasks", MOTD + "\nimport time\ntime.sleep(0.05)\n")
    (tmp_path / "play.yml").write_text(PLAY)
    with ThreadPoolExecutor(4) as pool:
        books = pool.map(lambda _: read_playbook(tmp_path / "play.yml", Catalogue(), env={}), range(4))
    assert len({type(book.plays[0].calls[0].task) for book in books}) == 1


def test_an_interrupt_leaves_no_half_of_it(read: Any, tmp_path: Path) -> None:
    path = write_task(tmp_path / "tasks", f"import os\nif not os.path.exists({str(tmp_path / 'x')!r}):\n")
    later = "".join(f"    {line}\n" for line in ("raise KeyboardInterrupt",))
    path.write_text(path.read_text() + later + MOTD.replace("from __future__ import annotations\n", ""))
    with pytest.raises(KeyboardInterrupt):
        read()
    (tmp_path / "x").touch()
    assert read().plays[0].calls[0].task.text == "Good morning"


def test_each_play_has_its_own_folders(read: Any, tmp_path: Path) -> None:
    """A relative folder begins at the file of the play, and the files of tasks that it includes know its tasks."""
    write_task(tmp_path / "tasks")
    write_task(tmp_path / "sub/tasks", MOTD.replace("Good morning", "Good night"))
    (tmp_path / "sub/other.yml").write_text(PLAY)
    (tmp_path / "more.yml").write_text("- ensure_motd: {path: two}\n")
    playbook = read(f"{PLAY}    - include_tasks: more.yml\n- import_playbook: sub/other.yml\n")
    assert [call.task.text for play in playbook.plays for call in play.calls] == [
        "Good morning", "Good morning", "Good night",
    ]  # fmt: skip
    text, place = refused(read, f"{PLAY}- tasks:\n    - ensure_motd: {{path: motd}}\n")
    fix = f"the play does not name {tmp_path}/tasks\nadd to the play: task_folders: [tasks]"
    assert (text, place) == (f"unknown task 'ensure_motd'\n{fix}", "play.yml:5:7")


def test_it_stands_in_blocks_and_handlers(read: Any, tmp_path: Path) -> None:
    write_task(tmp_path / "tasks")
    play = read(
        "- task_folders: [tasks]\n"
        "  tasks:\n"
        "    - block:\n"
        "        - ensure_motd: {path: '{{ item }}'}\n"
        "          loop: [a, b]\n"
        "          when: 1 == 1\n"
        "          notify: again\n"
        "      rescue: [ensure_motd: {path: c}]\n"
        "  handlers: [{name: again, ensure_motd: {path: d}}]\n"
    ).plays[0]
    assert [Path(call.task.path).name for call in (*play.calls, *play.handlers)] == ["a", "b", "c", "d"]


def test_root_tasks_take_none(read: Any, tmp_path: Path) -> None:
    write_task(tmp_path / "tasks")
    text, place = refused(read, PLAY.replace("  tasks:", "  root_tasks:"))
    assert (text, place) == (
        "ensure_motd is the user's own, and stands in root_tasks\nput it under tasks:", "play.yml:3:7",
    )  # fmt: skip


def test_root_refuses_folders(read: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write_task(tmp_path / "tasks", "raise SystemExit('it was executed')")
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    text, place = refused(read)
    assert place == "play.yml:1:17"
    assert text.startswith("root does not use task_folders\nroot runs no code that lies beside a playbook\nrun it as")
    assert path.exists()


def test_the_files_are_judged_as_the_playbook_is(read: Any, tmp_path: Path) -> None:
    path = write_task(tmp_path / "tasks")
    judged: list[Path] = []
    read(judge=judged.append)
    assert judged == [tmp_path / "play.yml", tmp_path / "tasks", path]


def test_kept_contents_replace_the_files(read: Any, tmp_path: Path) -> None:
    """After a failure of the playbook, a start uses the last good one with its tasks."""
    path = write_task(tmp_path / "tasks")
    content = dict(read().content)
    path.unlink()
    path.parent.rmdir()
    assert read(kept=content).plays[0].calls[0].task.text == "Good morning"
    assert refused(read)[0].startswith(f"the folder {tmp_path}/tasks does not exist")


@pytest.mark.parametrize(
    ("value", "message", "place"),
    [
        ("missing", "the folder DIR/missing does not exist", "17"),
        ("[tasks, missing]", "the folder DIR/missing does not exist", "25"),
        ("tasks/../missing", "the folder DIR/missing does not exist", "17"),
        ("play.yml", "DIR/play.yml is not a folder\nname its folder: DIR", "17"),
        ("empty", "the folder DIR/empty has no task\na task is a file ensure_NAME.py", "17"),
        ("5", "'task_folders' takes a path or a list of paths, not '5'", "17"),
        ("{a: b}", "'task_folders' takes a path or a list of paths, not a mapping", "17"),
        ("'{{ here }}'", "'task_folders' takes no template", "17"),
    ],
)
def test_a_wrong_folder(read: Any, tmp_path: Path, value: str, message: str, place: str) -> None:
    write_task(tmp_path / "tasks")
    (tmp_path / "empty").mkdir()
    (tmp_path / "empty/Ensure-Motd.py").touch()
    text, where = refused(read, PLAY.replace("tasks\n", f"{value}\n", 1))
    assert text.startswith(message.replace("DIR", str(tmp_path)))
    assert where == f"play.yml:1:{place}"


def test_no_folder_is_none(read: Any) -> None:
    for value in ("", "[]", "~"):
        assert read(f"- task_folders: {value}\n  tasks: [{{ensure_file: {{path: x}}}}]\n").plays[0].task_folders == ()


def test_a_name_that_another_task_has(read: Any, tmp_path: Path) -> None:
    write_task(tmp_path / "tasks")
    write_task(tmp_path / "more")
    text, place = refused(read, PLAY.replace("tasks\n", "[tasks, more]\n", 1))
    assert text.startswith(f"{tmp_path}/tasks/ensure_motd.py has the task ensure_motd too")
    assert place == "ensure_motd.py:1:1"
    write_task(tmp_path / "tasks", kind="ensure_file")
    text, place = refused(read)
    assert text.startswith("nbprovision has a task ensure_file of its own")
    assert place == "ensure_file.py:1:1"


FIELD = '    text: Annotated[str, parameter("The message.")] = "Good morning"\n'
MISTAKES = {
    "syntax": (MOTD.replace("if not self.text:", "if not self.text"), "the task is not Python: expected ':'", "24:25"),
    "not utf-8": (MOTD.replace("day", "d\udce4y"), "byte 0xe4 is not UTF-8", "1:22"),
    "raises": (MOTD + "\n1 / 0\n", "ensure_motd.py cannot be imported: ZeroDivisionError", "42"),
    "exits": (MOTD + "\nraise SystemExit\n", "ensure_motd.py cannot be imported: SystemExit", "42"),
    "sibling": (MOTD + "\nimport helper\n", "a task file stands alone: helper.py beside it", "42"),
    "no module": (MOTD + "\nimport no_such_module\n", "can import only what is in nbprovision's own environment", "42"),
    "no class": (MOTD.replace("EnsureMotd", "EnsureModt"), "has no class EnsureMotd; did you mean 'EnsureModt'", "1:1"),
    "no task": (MOTD.replace("Task[str | None], frozen=True, kw_only=True", ""), "EnsureMotd is not a task", "12:1"),
    "no method": (MOTD.replace("def apply", "def aply"), "EnsureMotd has no apply()\nevery task needs it", "12:1"),
    "no methods": (
        MOTD.replace("def apply", "def aply").replace("def read(", "def reed("), "EnsureMotd has no read(), apply()", "12:1",
    ),
    "no description": (MOTD.replace(FIELD, "    text: str = ''\n"), "the parameter 'text' has no description", "21:5"),
    "a path": (
        MOTD.replace(FIELD, FIELD.replace("str,", "Path | None,").replace('"Good morning"', "None")),
        "no value in a playbook is a Path, as the parameter 'text' wants", "21:5",
    ),
    "reserved": (MOTD.replace(FIELD, FIELD.replace("text:", "read:")), "a parameter cannot be named 'read'", "21:5"),
    "no type": (MOTD.replace("import Annotated", "import Any"), "the types of EnsureMotd are not known", "12:1"),
    "root's": (
        MOTD.replace("    actions", '    in_root = "always"\n    actions'), "EnsureMotd cannot be a task of root's", "12:1",
    ),
    "base fields": (MOTD.replace("Task[str | None]", "Task[Nope]"), "NameError: name 'Nope' is not defined", "12"),
    "other class": (
        MOTD + "\nfrom nbprovision.tasks import Task as EnsureMotd\n", "the class of ensure_motd is EnsureMotd, not Task", "1:1",
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", MISTAKES)
def test_a_file_that_is_no_task(read: Any, tmp_path: Path, name: str) -> None:
    text, message, place = MISTAKES[name]
    path = write_task(tmp_path / "tasks", "")
    path.write_bytes(text.encode("utf-8", "surrogateescape").replace(b"\xed\xb3\xa4", b"\xe4"))
    path.with_name("helper.py").write_text("x = 1\n")
    said, where = refused(read)
    assert message in said
    assert "Traceback" not in said
    assert where.startswith(f"ensure_motd.py:{place}")
    assert refused(read) == (said, where), "the same again in the same process"


def test_only_what_is_used_is_imported(read: Any, tmp_path: Path) -> None:
    write_task(tmp_path / "tasks")
    write_task(tmp_path / "tasks", "raise RuntimeError", "ensure_other")
    assert len(read().content) == 2


class TestPackages:
    """Packages declare tasks as entry points."""

    @pytest.fixture
    def site(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
        folder = tmp_path / "site"
        folder.mkdir()
        monkeypatch.syspath_prepend(str(folder))
        return folder

    PLAY = "- tasks:\n    - ensure_motd: {path: motd}\n"

    def test_a_task_of_a_package(self, read: Any, site: Path) -> None:
        record = install(site, "motd-tasks", "1.0", {"ensure_motd": "motd_of_one:EnsureMotd"}, motd_of_one=MOTD)
        playbook = read(self.PLAY)
        (call,) = playbook.plays[0].calls
        assert call.task.text == "Good morning"
        assert type(call.task).origin.package == "motd-tasks 1.0"
        assert set(playbook.looked_at) == {site / "motd_of_one.py", record / "METADATA"}, "what shows a new version"
        assert len(playbook.content) == 1, "it does not travel with the playbook"

    def test_packages_are_looked_through_for_unknown_names_only(
        self, read: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        write_task(tmp_path / "tasks")
        monkeypatch.setattr(importlib.metadata, "entry_points", lambda **_: pytest.fail("it costs a tenth of a second"))
        assert read(f"{PLAY}    - {{ensure_file: {{path: x}}, name: n, when: 1 == 1, loop: [1]}}\n")

    def test_a_folder_comes_before_a_package(self, read: Any, tmp_path: Path, site: Path) -> None:
        install(site, "motd-tasks", "1.0", {"ensure_motd": "motd_of_two:EnsureMotd"}, motd_of_two="1 / 0")
        write_task(tmp_path / "tasks")
        assert read().plays[0].calls[0].task.text == "Good morning"

    def test_one_task_of_a_package_extends_another(self, read: Any, site: Path) -> None:
        more = "\n\nclass EnsureNews(EnsureMotd, frozen=True, kw_only=True):\n    read = lambda self, machine: 1 / 0\n"
        entries = {kind: f"motd_extended:{name}" for kind, name in KINDS.items()}
        install(site, "motd-tasks", "1.0", entries, motd_extended=MOTD + more)
        motd, news = read(f"{self.PLAY}    - ensure_news: {{path: news}}\n").plays[0].calls
        assert "origin" in vars(type(news.task)), "it is checked as the other one is"
        assert news.task.barrier(None) is motd.task.barrier(None) is True
        with pytest.raises(TaskFailed, match=r"ensure_news: read\(\) raised ZeroDivisionError"):
            news.task.read(None)

    @pytest.mark.parametrize(
        ("value", "text", "message"),
        [
            ("motd_bad_1:EnsureMotd", "1 / 0", "ensure_motd of the package motd-tasks 1.0 cannot be imported: Zero"),
            ("motd_bad_2:EnsureModt", MOTD, "cannot be imported: AttributeError: module 'motd_bad_2' has no"),
            ("motd_bad_3:other", "other = 5", "ensure_motd of the package motd-tasks 1.0 is not a class"),
            ("motd_bad_4:EnsureMotd", MOTD.replace("def apply", "def aply"), "EnsureMotd has no apply()"),
            ("no_such_module:EnsureMotd", "", "cannot be imported: ModuleNotFoundError: No module named"),
        ],
    )
    def test_a_package_that_cannot_be_used(self, read: Any, site: Path, value: str, text: str, message: str) -> None:
        install(site, "motd-tasks", "1.0", {"ensure_motd": value}, **{value.partition(":")[0]: text} if text else {})
        said, place = refused(read, self.PLAY)
        assert message in said
        assert place.startswith("motd_bad_4.py:12:1" if "apply" in message else "play.yml:2:7")

    def test_two_packages_with_one_name(self, read: Any, site: Path) -> None:
        for name in ("one", "two"):
            install(site, f"{name}-tasks", "1.0", {"ensure_motd": f"motd_of_{name}:EnsureMotd"})
        assert refused(read, self.PLAY) == (
            "two packages have a task ensure_motd\none-tasks 1.0 and two-tasks 1.0\nuninstall one of them",
            "play.yml:2:7",
        )

    def test_no_package_replaces_a_task_of_nbprovision(self, read: Any, site: Path) -> None:
        install(site, "motd-tasks", "1.0", {"ensure_file": "motd_of_three:EnsureFile"}, motd_of_three="1 / 0")
        (call,) = read("- tasks: [{ensure_file: {path: x}}]").plays[0].calls
        assert type(call.task) is Catalogue()["ensure_file"]
        assert "ensure_file" not in Kinds(Catalogue(), Files()).packaged

    def test_a_kind_that_nothing_has(self) -> None:
        assert Kinds(Catalogue(), Files()).get("ensure_nothing") is None
