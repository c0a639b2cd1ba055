"""Root's files and programs: nothing is followed or changed that somebody else could have put there. These tests need root."""

from __future__ import annotations

import ast
import os
import stat
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from nbprovision.root import tools

PACKAGE = Path(tools.__file__).parent
OTHER = 65534  # nobody

needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root has folders that nobody else can change")


@pytest.fixture
def folder() -> Iterator[Path]:
    """A folder whose parents are all root's alone, as /etc is."""
    path = Path("/var/lib", f"nbprovision-test-{os.getpid()}-{time.monotonic_ns()}")
    path.mkdir(mode=0o755)
    yield path
    import shutil

    shutil.rmtree(path)


@needs_root
class TestWriting:
    def test_a_file_with_its_folders(self, folder: Path) -> None:
        tools.write(f"{folder}/a/b/file", "text\n", 0o640)
        assert (folder / "a/b/file").read_text() == "text\n"
        assert stat.S_IMODE((folder / "a/b/file").stat().st_mode) == 0o640
        tools.write(f"{folder}/a/b/file", "other\n")
        assert tools.read(f"{folder}/a/b/file") == "other\n"
        assert os.listdir(folder / "a/b") == ["file"]
        tools.remove(f"{folder}/a/b/file")
        tools.remove(f"{folder}/a/b/file")
        assert os.listdir(folder / "a/b") == []

    def test_what_is_so_already_is_not_written(self, folder: Path) -> None:
        tools.write(f"{folder}/file", "text")
        before = (folder / "file").stat()
        tools.write(f"{folder}/file", "text")
        assert (folder / "file").stat() == before
        (folder / "file").chmod(0o666)
        tools.write(f"{folder}/file", "text")
        assert stat.S_IMODE((folder / "file").stat().st_mode) == 0o644

    def test_a_link_is_replaced_and_not_followed(self, folder: Path) -> None:
        (folder / "target").write_text("kept")
        (folder / "file").symlink_to(folder / "target")
        tools.write(f"{folder}/file", "new")
        assert (folder / "target").read_text() == "kept"
        assert not (folder / "file").is_symlink()
        (folder / "link").symlink_to(folder / "target")
        tools.remove(f"{folder}/link")
        assert (folder / "target").read_text() == "kept"

    @pytest.mark.parametrize("act", ["write", "make_folder", "remove"])
    def test_a_folder_that_is_a_link_is_refused(self, folder: Path, act: str) -> None:
        (folder / "real").mkdir()
        (folder / "real/file").write_text("kept")
        (folder / "link").symlink_to(folder / "real")
        arguments = {"write": ("x",)}.get(act, ())
        path = f"{folder}/link/file" if act != "make_folder" else f"{folder}/link/inner"
        with pytest.raises(tools.Trouble, match="is not a folder of root's"):
            getattr(tools, act)(path, *arguments)
        assert (folder / "real/file").read_text() == "kept"
        assert os.listdir(folder / "real") == ["file"]

    @pytest.mark.parametrize("mode", [0o777, 0o1777, 0o775])
    def test_a_folder_that_others_can_write_is_refused(self, folder: Path, mode: int) -> None:
        (folder / "open").mkdir()
        (folder / "open").chmod(mode)
        for path in (f"{folder}/open/file", f"{folder}/open/inner/file"):
            with pytest.raises(tools.Trouble, match="can be changed by others than root"):
                tools.write(path, "x")
        assert os.listdir(folder / "open") == []

    def test_a_users_folder_is_refused(self, folder: Path) -> None:
        (folder / "home").mkdir()
        os.chown(folder / "home", OTHER, OTHER)
        for path in (f"{folder}/home/file", f"{folder}/home/a/b"):
            with pytest.raises(tools.Trouble, match="can be changed by others than root"):
                tools.write(path, "x")
        assert os.listdir(folder / "home") == []

    def test_a_folder_in_the_place_of_a_file_is_refused(self, folder: Path) -> None:
        (folder / "file").mkdir()
        with pytest.raises(tools.Trouble, match="is a folder"):
            tools.write(f"{folder}/file", "x")
        with pytest.raises(tools.Trouble, match="is a folder"):
            tools.remove(f"{folder}/file")


class TestReading:
    def test_a_link_a_pipe_and_a_folder_are_refused(self, tmp_path: Path) -> None:
        (tmp_path / "file").write_text("text")
        (tmp_path / "link").symlink_to(tmp_path / "file")
        os.mkfifo(tmp_path / "pipe")
        assert tools.read(f"{tmp_path}/file") == "text"
        assert tools.read("/file", str(tmp_path)) == "text"
        assert tools.read(f"{tmp_path}/missing") is None
        for name, why in (("link", "is a link"), ("pipe", "not an ordinary file"), ("", "not an ordinary file")):
            with pytest.raises(tools.Trouble, match=why):
                tools.read(f"{tmp_path}/{name}")


class TestPrograms:
    def test_its_environment_is_its_own(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("LD_PRELOAD", "/nowhere.so")
        monkeypatch.setenv("PATH", "/nowhere")
        output = tools.must_run([tools.program("env")], 20)
        assert "LD_PRELOAD" not in output
        assert f"PATH={tools.ENVIRONMENT['PATH']}" in output.splitlines()

    def test_a_failure_says_its_last_line(self) -> None:
        with pytest.raises(tools.Trouble, match=r"sh -c .* ended with 3: last$"):
            tools.must_run([tools.program("sh"), "-c", "echo first; echo last; exit 3"], 20)

    def test_it_ends_in_time_with_its_children(self, tmp_path: Path) -> None:
        begin = time.monotonic()
        with pytest.raises(tools.Trouble, match="sh took more than 1 s"):
            tools.run([tools.program("sh"), "-c", f"sh -c 'sleep 60; echo >{tmp_path}/late' & wait"], 1)
        assert time.monotonic() - begin < 30
        assert not (tmp_path / "late").exists()

    def test_a_child_that_holds_the_output_is_not_awaited_for_ever(self) -> None:
        begin = time.monotonic()
        with pytest.raises(tools.Trouble, match="took more than 1 s"):
            tools.run([tools.program("sh"), "-c", "sleep 60 & exit 0"], 1)
        assert time.monotonic() - begin < 30

    def test_a_name_alone_is_refused(self) -> None:
        with pytest.raises(tools.Trouble, match="missing here"):
            tools.run(["sh", "-c", "true"], 5)
        with pytest.raises(tools.Trouble, match="missing here"):
            tools.run([tools.program("no-such-program"), "x"], 5)

    def test_output_cannot_imitate_lines(self) -> None:
        assert "\x1b" not in tools.run([tools.program("printf"), "a\\033[2Jb\\rc"], 5).output


@pytest.mark.parametrize("path", sorted(PACKAGE.glob("*.py")), ids=lambda path: path.name)
def test_it_is_python_39_with_the_standard_library_alone(path: Path) -> None:
    """Amazon Linux 2023's own Python runs it, without site-packages."""
    tree = ast.parse(path.read_text(), feature_version=(3, 9))
    for node in ast.walk(tree):
        assert not isinstance(node, ast.JoinedStr), (
            f"line {node.lineno}: an f-string, which ast.unparse may write for 3.12 only"
        )
        assert not isinstance(node, ast.Match), "a match statement"
        names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
        names += [str(node.module)] if isinstance(node, ast.ImportFrom) else []
        for name in names:
            assert name.partition(".")[0] in sys.stdlib_module_names or name.startswith("nbprovision.root"), name
