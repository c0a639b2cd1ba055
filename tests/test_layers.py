"""The folders of the package: imports point down, the way in stays light; and every file of the repository is short."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import tomlkit
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "nbprovision"
FILES = sorted(PACKAGE.rglob("*.py"))
EVERY_FILE = [
    path for room in ("benchmarks", "docker", "nbprovision", "tests") for path in sorted((ROOT / room).rglob("*.py"))
]
LONGEST_FILE = 800  # lines; a file is cut where its theme changes, so this is far away

# The folders from the lowest to the highest: each imports from itself and those before it.
ORDER = (
    "model", "root", "system", "machine", "state", "report", "playbook", "lint",
    "files", "indexes", "pip", "conda", "channel", "jupyter", "r", "services",
    "lifecycle", "engine", "lock", "bundle", "fleet", "reference", "tasks", "catalogue", "cli", "api", "__init__", "__main__",
)  # fmt: skip
SUBJECTS = {"files", "indexes", "pip", "conda", "channel", "jupyter", "r", "services"}
# These are handed the tasks, and know none of them.
KNOW_NO_SUBJECT = {"state", "report", "playbook", "lint", "engine", "reference"}

# The start-up path: no more than a few small modules of the standard library.
HEAVY = {
    "argparse", "asyncio", "dataclasses", "email", "filelock", "hashlib", "importlib.metadata", "inspect", "jinja2", "json",
    "logging", "msgspec", "packaging", "pathlib", "rattler", "re", "sh", "socket", "ssl", "structlog", "subprocess",
    "tempfile", "typing", "urllib.parse", "yaml",
}  # fmt: skip


def folder_of(path: Path) -> str:
    return path.relative_to(PACKAGE).parts[0].removesuffix(".py")


def imports(tree: ast.AST) -> Iterator[tuple[int, str]]:
    """Line and name of every module of ours that is imported when the code runs (not for type checkers only)."""
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, ast.If) and ast.unparse(node.test) in ("TYPE_CHECKING", "typing.TYPE_CHECKING"):
            for other in node.orelse:
                yield from imports(other)
            continue
        if isinstance(node, ast.Import):
            yield from ((node.lineno, alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"line {node.lineno}: imports name the whole path"
            yield from ((node.lineno, f"{node.module}.{alias.name}") for alias in node.names)
        yield from imports(node)


def ours(path: Path) -> list[tuple[int, list[str]]]:
    """Line and parts, after the package's own name, of each import of ours in a file."""
    found = [(line, name.split(".")) for line, name in imports(ast.parse(path.read_text()))]
    return [(line, parts[1:]) for line, parts in found if parts[0] == "nbprovision"]


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.relative_to(PACKAGE).as_posix())
def test_imports_point_down(path: Path) -> None:
    folder = folder_of(path)
    assert folder in ORDER, f"{folder} has no place in the order above"
    for line, parts in ours(path):
        target = parts[0]
        if target == "__version__" and len(parts) == 1:
            continue
        assert ORDER.index(target) <= ORDER.index(folder), f"{path.name}:{line}: {folder} imports {target}"
        knows = target in SUBJECTS and folder in KNOW_NO_SUBJECT
        assert not knows, f"{path.name}:{line}: {folder} knows no subject, and imports {target}"


# What carries out what a task has planned, in the folders of the subjects and of the machine: only these change anything or
# start a process, and what reads and plans imports none of them. A task's own module (ensure_*, restart_*) has both.
CARRY_OUT = {
    "channel": {"build", "index", "interpreter", "maker", "package", "wheel"},
    "conda": {
        "bookkeeping", "byte_code", "clone", "conda_command", "engine", "solution", "packages", "command_attempt", "exact_records", "rattler", "rattler_child",
        "locking", "rattler_lock", "archives",
    },
    "files": {
        "archive", "command_keeper", "config_file", "download_source", "edited_settings", "edited_text", "file_work", "git_command",
        "git_config", "git_repair", "git_repository", "tar_backup", "web_download",
    },
    "indexes": {"codeartifact", "pip_cert"},
    "jupyter": {"kernel_folder", "own_extension"},
    "machine": {"aws", "caches", "package_files", "s3"},
    "r": {"r_command"},
    "pip": {
        "engine", "guard", "locked_install", "packages", "pip_command", "request", "uv_command",
        "virtual_environment",
    },
}  # fmt: skip
READ_AND_PLAN = [
    path
    for folder, names in CARRY_OUT.items()
    for path in sorted((PACKAGE / folder).glob("*.py"))
    if path.stem not in names and not path.stem.startswith(("ensure_", "restart_"))
]
# What changes files, of `system.files`.
CHANGING = {
    "write_atomically", "copy_atomically", "replacing", "make_folder", "link_atomically", "remove", "remove_at_once",
    "remove_if_empty", "set_mode", "move_into_place",
}  # fmt: skip
MAY_KEEP = {
    "machine/image.py": "keeps what the platform's image brought, at the first sight of each boot",
    "machine/digests.py": "keeps what it has worked out in the tool's cache",
    "machine/interpreters.py": "asks an interpreter that no file tells of, and keeps the answer in the tool's cache",
}


@pytest.mark.parametrize("path", READ_AND_PLAN, ids=lambda path: path.relative_to(PACKAGE).as_posix())
def test_reading_does_not_write(path: Path) -> None:
    if path.relative_to(PACKAGE).as_posix() in MAY_KEEP:
        return
    for line, parts in ours(path):
        folder, module = parts[0], parts[1] if len(parts) > 1 else ""
        is_record = len(parts) == 3 and parts[2][:1].isupper()
        assert is_record or module not in CARRY_OUT.get(folder, ()), f"{path.name}:{line}: imports {folder}.{module}"
        assert parts[:2] not in (["system", "commands"], ["system", "process"]), f"{path.name}:{line}: starts a process"
        assert parts[:2] != ["system", "files"] or parts[2] not in CHANGING, f"{path.name}:{line}: changes files"


def test_no_modules_import_one_another_in_a_circle() -> None:
    """Imports within functions count; those for type checkers only do not."""
    modules = {".".join(path.relative_to(ROOT).with_suffix("").parts): path for path in FILES}
    needs = {
        name: {
            module
            for _, text in imports(ast.parse(path.read_text()))
            for module in (text, text.rpartition(".")[0])
            if module in modules and module != name
        }
        for name, path in modules.items()
    }
    while free := {name for name, others in needs.items() if not others & needs.keys()}:
        needs = {name: others for name, others in needs.items() if name not in free}
    circles = {name: sorted(others & needs.keys()) for name, others in needs.items()}
    assert circles == {}, "these import one another, or what does"


def test_no_task_imports_another() -> None:
    for path in PACKAGE.glob("*/ensure_*.py"):
        for line, parts in ours(path):
            other = len(parts) > 1 and parts[1].startswith("ensure_")
            assert not other, f"{path.name}:{line}: imports {'.'.join(parts)}"


@pytest.mark.parametrize("folder", sorted(KNOW_NO_SUBJECT - {"lint"}))
def test_no_kind_of_task_is_named_outside_its_folder(folder: str) -> None:
    """The engine and the playbook reader are handed the tasks; a new kind of task edits neither."""
    for path in (PACKAGE / folder).rglob("*.py"):
        if path.name in ("ansible.py", "other_documents.py"):  # advice for people: what they write here in its place
            continue
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Constant) and isinstance(node.value, str):
                assert not re.match("ensure_[a-z]", node.value), f"{path.name}:{node.lineno}: names {node.value}"


@pytest.mark.parametrize("path", EVERY_FILE, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_files_stay_short(path: Path) -> None:
    """Those of the tests and the measurements as well: what is longer has more than one theme."""
    assert len(path.read_text().splitlines()) <= LONGEST_FILE


# What starts a process, by module; the standard library's pools run our own interpreter and functions.
STARTS = {
    "subprocess": {"Popen", "run", "call", "check_call", "check_output", "getoutput", "getstatusoutput"},
    "os": {"system", "popen", "fork", "forkpty", "posix_spawn", "posix_spawnp"},
    "pty": {"spawn", "fork"},
    "asyncio": {"create_subprocess_exec", "create_subprocess_shell"},
    "sh": {"Command"},
}
MAY_START = {
    "system/commands.py",  # judges by system/trust.py what root would run
    "system/process.py",  # the same
    "system/early_child.py",  # the same
    "__main__.py",  # this very program again, without its compiled files
    "root/tools.py",  # programs of root's own folders, by their full paths
    "root/idle_watch.py",  # a program of its own, of a user who is not root: `aws` by its full path
}
# What changes files beside system/, where every function judges first; and why it may.
CHANGES = {
    "os": {
        "mkdir", "makedirs", "rename", "replace", "symlink", "link", "unlink", "remove", "rmdir", "chmod", "chown",
        "utime", "truncate",
    },
    "shutil": {"copy", "copy2", "copyfile", "copytree", "move", "rmtree"},
}  # fmt: skip
METHODS = {
    "mkdir", "write_text", "write_bytes", "unlink", "rename", "symlink_to", "hardlink_to", "touch", "chmod", "rmdir",
}  # fmt: skip
MAY_CHANGE = {
    "root/tools.py": "root's own program: it changes what only root can change, which it looks at by folder descriptors",
    "root/idle_stop.py": "root's own program: one folder in /run, by folder descriptors",
    "root/idle_watch.py": "a program of its own, of a user who is not root: its memory and its report",
    **dict.fromkeys(
        (
            "files/command_keeper.py", "pip/request.py", "cli/issue_report.py", "engine/notices.py", "report/activity.py",
            "report/progress.py", "state/last_good.py", "state/store.py", "state/witness.py", "lifecycle/own_environment.py",
        ),
        "below the tool's home, which is judged before a run (machine/ownership.py)",
    ),
    **dict.fromkeys(
        (
            "pip/pip_command.py", "conda/clone.py",
            "conda/byte_code.py", "conda/rattler_child.py", "pip/uv_command.py",
        ),
        "in an environment, which is judged before a task changes it (engine/guard.py)",
    ),
    **dict.fromkeys(
        ("channel/build.py", "channel/package.py", "channel/interpreter.py"),
        "in a channel, which is judged before it is built (channel/maker.py), or a temporary folder",
    ),
    "engine/background.py": "what the kernel says of this process, in /proc",
    **dict.fromkeys(
        (
            "files/archive.py", "conda/command_attempt.py", "conda/rattler.py", "machine/package_files.py",
            "conda/exact_records.py", "bundle/fetching.py",
        ),
        "in a temporary folder, or what `temporary_beside` has judged",
    ),
}  # fmt: skip


def called(tree: ast.AST, functions: dict[str, set[str]]) -> Iterator[tuple[int, str]]:
    """Line and name of every function of these that is named, or imported by its name; ``Popen[bytes]`` is a type."""
    types = {id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Subscript)}
    for node in ast.walk(tree):
        if id(node) in types:
            continue
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name):
            module, names = node.value.id, [node.attr]
        elif isinstance(node, ast.ImportFrom):
            module, names = node.module or "", [alias.name for alias in node.names]
        else:
            continue
        for name in names:
            if name in functions.get(module, ()) or (module == "os" and name.startswith(("exec", "spawn"))):
                yield node.lineno, f"{module}.{name}"


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.relative_to(PACKAGE).as_posix())
def test_processes_are_started_in_one_place(path: Path) -> None:
    if path.relative_to(PACKAGE).as_posix() not in MAY_START:
        assert list(called(ast.parse(path.read_text()), STARTS)) == [], "start it by system.commands or system.process"


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.relative_to(PACKAGE).as_posix())
def test_files_are_changed_where_root_is_judged(path: Path) -> None:
    tree = ast.parse(path.read_text())
    changes = [found for found in called(tree, CHANGES) if not found[1].startswith(("os.exec", "os.spawn"))]
    changes += [
        (node.lineno, node.func.attr)
        for node in ast.walk(tree)
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr in METHODS
        and not (isinstance(node.func.value, ast.Name) and node.func.value.id in ("os", "files"))
    ]  # fmt: skip
    if folder_of(path) != "system" and path.relative_to(PACKAGE).as_posix() not in MAY_CHANGE:
        assert changes == [], "change it by a function of system.files, or say here why root may"


def loaded_by(code: str) -> set[str]:
    """The modules that are loaded after ``code``, in an interpreter of its own."""
    done = subprocess.run(
        [
            sys.executable,
            "-S",
            "-c",
            f"import sys\nsys.path[0:0] = [{str(PACKAGE.parent)!r}]\n{code}\nprint(*sys.modules)",
        ],
        capture_output=True,
        text=True,
        check=True,
    )
    return set(done.stdout.split())


@pytest.mark.parametrize("module", ["nbprovision", "nbprovision.__main__", "nbprovision.state.witness"])
def test_the_way_in_is_light(module: str) -> None:
    assert loaded_by(f"import {module}") & HEAVY == set()


def test_the_python_api_is_there_when_it_is_asked_for() -> None:
    code = "from nbprovision import ProvisionError, ensure_pip_index, run_playbook; print(ensure_pip_index.__name__)"
    assert subprocess.check_output([sys.executable, "-c", code], cwd=PACKAGE.parent, text=True) == "ensure_pip_index\n"


@pytest.mark.parametrize("module", ["nbprovision.__main__", "nbprovision.state.witness"])
def test_the_way_in_judges_nothing(module: str) -> None:
    """A run with nothing to do starts and writes nothing that would have to be judged, and does not pay for it."""
    assert not {"nbprovision.system.trust", "nbprovision.system.process"} & loaded_by(f"import {module}")


# What a distribution is imported as, if not by its name.
IMPORTED_AS = {"pyyaml": "yaml", "py-rattler": "rattler", "ruamel-yaml": "ruamel", "backports-zstd": "backports"}
# Python 3.14 has zstd itself; a kernel is tried by the jupyter_client of its own environment; boto3 is made of botocore.
NOT_OURS = {"compression", "jupyter_client", "botocore"}


def test_every_dependency_is_declared_and_used() -> None:
    project = tomlkit.parse((ROOT / "pyproject.toml").read_text())["project"]
    declared = [*project["dependencies"], *project["optional-dependencies"]["fleet"]]  # type: ignore[index, misc]
    names = {canonicalize_name(Requirement(str(line)).name) for line in declared}
    used = {name.split(".")[0] for path in FILES for _, name in imports(ast.parse(path.read_text()))}
    foreign = used - set(sys.stdlib_module_names) - NOT_OURS - {"nbprovision"}
    assert foreign == {IMPORTED_AS.get(name, name) for name in names}
