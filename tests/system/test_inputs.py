"""What a result rests on is recorded where it is read, and nowhere can it be read past the record."""

from __future__ import annotations

import ast
import os
from pathlib import Path

import pytest

from nbprovision.machine.machine import Machine
from nbprovision.state import store
from nbprovision.system import inputs
from nbprovision.system.inputs import Environment, remembered
from nbprovision.system.reading import read_bytes
from tests.test_layers import READ_AND_PLAN

PACKAGE = Path(__file__).parents[2] / "nbprovision"

# Where a file may be opened without `system.reading`, and why.
MAY_OPEN = {
    "conda/early_engine.py": "decides nothing but when a process is started",
    "conda/package_rules.py": "for the lint, which decides nothing",
    "jupyter/restart_jupyter.py": "what the kernel says",
    "machine/image.py": "what the kernel says",
    "machine/environments.py": "what the kernel says, and a file of this package",
    "machine/digests.py": "the content of files, which `deep` compares anew in each run",
    "system/entries.py": "records it itself, as it follows no link",
    "machine/variables.py": "facts of templates, whose sources are named to the run",
}


class Shelf:
    """Reads its file once."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.times = 0

    @remembered
    def content(self) -> bytes:
        self.times += 1
        return read_bytes(self.path)


TASKS = [*PACKAGE.glob("*/ensure_*.py"), *PACKAGE.glob("*/restart_*.py")]


@pytest.mark.parametrize("path", [*READ_AND_PLAN, *TASKS], ids=lambda path: f"{path.parent.name}/{path.stem}")
def test_nothing_is_read_past_the_record(path: Path) -> None:
    tree = ast.parse(path.read_text())
    name = f"{path.parent.name}/{path.name}"
    for node in ast.walk(tree):
        if not isinstance(node, ast.Call):
            continue
        method = isinstance(node.func, ast.Attribute) and node.func.attr in ("read_text", "read_bytes")
        assert not method or name in MAY_OPEN, f"{name}:{node.lineno}"
        opens = ast.unparse(node.func) in ("open", "os.open")
        assert not opens or name in MAY_OPEN, f"{name}:{node.lineno}: opens a file by itself"
    assert "cached_property" not in path.read_text(), "who asks later would not have read it: use remembered"


def test_whoever_asks_for_what_is_remembered_has_read_it(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    shelf = Shelf(tmp_path / "file")
    assert shelf.content == b"x"
    for _ in range(2):
        with inputs.recorded() as outer, inputs.recorded() as read:
            assert shelf.content == b"x"
        assert list(read.files) == list(outer.files) == [str(tmp_path / "file")]
    assert shelf.times == 1
    with inputs.recorded() as read, inputs.unrecorded():
        read_bytes(tmp_path / "file")
    assert read.files == {}


def test_a_file_that_is_not_there_and_a_link_are_read_as_well(tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to("file")
    with inputs.recorded() as read, pytest.raises(FileNotFoundError):
        read_bytes(tmp_path / "link")
    assert [look.followed for look in read.files.values()] == [None]
    changed = os.lstat(tmp_path / "link").st_ctime_ns
    [(path, look)] = read.files.items()
    read.files[path] = look._replace(at=changed + store.TICK_NS - 1)  # however long this machine took
    assert store.read_from(read) is None, "a change right after it would not show"
    read.files[path] = look._replace(at=changed + store.TICK_NS)
    assert store.read_from(read) is not None
    with inputs.recorded() as read:
        inputs.file(tmp_path)
        inputs.file("/proc/self/mounts")
    assert list(read.files) == [str(tmp_path)]


def test_a_variable_is_read_by_its_name_unless_a_playbook_sets_it(machine: Machine) -> None:
    env = Environment({"A": "1", "B": "2"}, given=["B"])
    with inputs.recorded() as read:
        assert (env["A"], env.get("B"), env.get("C", "x"), "D" in env) == ("1", "2", "x", False)
        assert {**env} == dict(env) == {"A": "1", "B": "2"}
    assert read.variables == {"A": "1", "C": None, "D": None}
    found = store.read_from(read)
    assert found is not None
    assert all(store.holds(witness, {"A": "1"}) for witness in found)
    assert not all(store.holds(witness, {"A": "2"}) for witness in found)
    assert not all(store.holds(witness, {"A": "1", "C": ""}) for witness in found)
    with inputs.recorded() as read:
        view = machine.seen_with({"TEAM": "blue"}, applies=False)
        assert (view.env.get("TEAM"), machine.env.get("TEAM")) == ("blue", None)
    assert read.variables["TEAM"] is None


def test_variables_and_paths_of_a_proof_come_back(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_text("x")
    witnesses = (*(store.look([path]) or ()), store.variable("A", "1"), store.variable("C", None))
    kept = store.Store(tmp_path / "state/it.state", {"A": "1"})
    kept.write((), {"B": "2"}, [store.Proof("digest", None, witnesses, "")], complete=True)
    assert store.Store(kept.path, {"A": "1"}).proof_of("digest") is not None
    assert store.Store(kept.path, {"A": "2"}).proof_of("digest") is None
    assert store.Store(kept.path, {"A": "1", "C": "3"}).proof_of("digest") is None
    path.write_text("longer")
    assert store.Store(kept.path, {"A": "1"}).proof_of("digest") is None


def test_a_file_of_the_home_that_is_written_anew_with_the_same_content_is_proof_still(tmp_path: Path) -> None:
    """A restart takes the user's home away, and a task writes pip.conf into the new one."""
    env = {"HOME": str(tmp_path / "home")}
    config, seen = tmp_path / "home/.config/pip/pip.conf", tmp_path / "home/visible.conf"

    def write(text: str, mode: int = 0o600) -> None:
        for path in (config, seen):
            path.parent.mkdir(parents=True, exist_ok=True)
            path.unlink(missing_ok=True)
            path.write_text(text)
            path.chmod(mode)

    write("[global]\n")
    kept = store.Store(tmp_path / "tool/state/it.state", env)
    proofs = [store.Proof(name, None, store.look([path]) or (), "") for name, path in (("c", config), ("s", seen))]
    kept.write((), {}, proofs, complete=True)
    write("[global]\n")
    again = store.Store(kept.path, env)
    proof = again.proof_of("c")
    assert proof is not None
    assert proof.witnesses == store.look([config]), "it is the file that is there now"
    assert again.proof_of("s") is None, "not one of those that a restart takes away"
    for text, mode in (("[global]\n", 0o644), ("[global]\na=b\n", 0o600)):
        write(text, mode)
        assert store.Store(kept.path, env).proof_of("c") is None
    config.unlink()
    assert store.Store(kept.path, env).proof_of("c") is None
