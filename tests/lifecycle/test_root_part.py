"""Root's part of a script: what it holds, where it does not fit, and that it runs as rendered."""

from __future__ import annotations

import ast
import base64
import json
import os
import re
import shutil
import stat
import subprocess
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from nbprovision import root
from nbprovision.catalogue import Catalogue
from nbprovision.cli import main
from nbprovision.cli.lint import assumed
from nbprovision.lifecycle import root_part as packer
from nbprovision.lifecycle.playbook import root_calls
from nbprovision.lifecycle.render import MAX_BYTES
from nbprovision.lifecycle.root_part import RootPart, root_part

MOUNT = 'ensure_mount: {name: team, source: "files.example.com:/x", fstype: nfs4}'
PLAYBOOK = f"- root_tasks:\n    - name: The files\n      {MOUNT}\n  tasks:\n    - ensure_file: {{path: ~/x}}\n"
TOOL = ("--tool", "s3://team-bucket/nbprovision")
# More of what cannot be compressed than a script has room for.
MANY = "- root_tasks:\n" + "".join(
    f'    - ensure_mount: {{name: m{number}, source: "h:/{os.urandom(48).hex()}", fstype: nfs4}}\n'
    for number in range(99)
)
Render = Callable[..., tuple[int, str, str]]


@pytest.fixture
def render(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Render:
    """Render a playbook; returns exit status, script and messages."""

    def rendered(text: str, *options: str, inline: bool = True) -> tuple[int, str, str]:
        path = tmp_path / "team.yml"
        path.write_text(text)
        names = ["--inline", str(path)] if inline else ["s3://team-bucket/team.yml", "--root-tasks", str(path)]
        status = main(["lifecycle", "render", *names, *TOOL, *options])
        return (status, *capsys.readouterr())

    return rendered


def packed(tmp_path: Path, text: str) -> RootPart:
    path = tmp_path / "packed.yml"
    path.write_text(text)
    calls = root_calls(path, assumed("notebook-instance", {}, Path("/")), Catalogue(), {})
    part = root_part(calls)
    assert part is not None
    return part


def embedded(script: str) -> str:
    """The program in a script."""
    match = re.search(r"<<'NBPROVISION-END-OF-ROOT-PART'.*?\n(.*?)\nNBPROVISION-END-OF-ROOT-PART", script, re.DOTALL)
    assert match is not None
    return zlib.decompress(base64.b85decode(match[1].replace("\n", ""))).decode()


@pytest.mark.parametrize("inline", [True, False])
def test_a_small_one_stands_in_the_script(render: Render, tmp_path: Path, inline: bool) -> None:
    status, script, messages = render(PLAYBOOK, inline=inline)
    assert (status, messages) == (0, "")
    assert len(script) <= MAX_BYTES
    assert script.isascii()
    assert embedded(script).encode() == packed(tmp_path, PLAYBOOK).content
    assert "/usr/bin/python3 -I -S" in script
    assert "${root:+ root=$root}" in script
    subprocess.run(["/bin/sh", "-n"], input=script.encode(), check=True)


def test_it_is_the_same_each_time_and_another_for_another_task(tmp_path: Path) -> None:
    part = packed(tmp_path, PLAYBOOK)
    assert part.content == packed(tmp_path, PLAYBOOK).content
    assert part.name == f"root-{part.sha256}"
    assert part.sha256 != packed(tmp_path, PLAYBOOK.replace("name: team", "name: other")).sha256


def test_without_root_tasks_there_is_no_part(render: Render) -> None:
    _, script, _ = render("- tasks:\n    - ensure_file: {path: ~/x}\n")
    assert "ROOT" not in script
    assert "root=" not in script


def test_tags_and_variables_decide_as_in_a_run(render: Render) -> None:
    text = f'- root_tasks:\n    - {MOUNT}\n      tags: files\n    - ensure_mount: {{name: other, source: "{{{{ host }}}}:/x", fstype: nfs4}}\n'
    _, script, _ = render(text, "-e", "host=b.example.com", "--tags", "files")
    assert '"team"' in embedded(script)
    assert '"other"' not in embedded(script)
    _, script, _ = render(text, "-e", "host=b.example.com")
    assert "b.example.com:/x" in embedded(script)


def test_strict_ends_the_start_where_root_failed(render: Render) -> None:
    assert '[ -z "$root" ] || exit 2' in render(PLAYBOOK, "--strict")[1]
    assert "exit 2" not in render(PLAYBOOK)[1]


def test_at_creation_it_is_left_out_with_a_warning(render: Render) -> None:
    _, script, messages = render(PLAYBOOK, "--on-create")
    assert "ROOT-PART" not in script
    assert "root_tasks are left out" in messages


def test_a_fault_has_its_place(render: Render, tmp_path: Path) -> None:
    status, script, messages = render(PLAYBOOK.replace("files.example.com:/x", "-o suid"))
    assert (status, script) == (4, "")
    assert f"{tmp_path}/team.yml:3:" in messages
    assert "is not a source of nfs4" in messages


def test_a_secret_is_refused(render: Render) -> None:
    status, script, messages = render(
        PLAYBOOK.replace("{name: team,", "{name: team, options: [password=hunter2hunter2],")
    )
    assert (status, script) == (4, "")
    assert "hunter2" not in messages


class TestWhatDoesNotFit:
    def test_without_assets_it_is_refused_by_name_and_size(self, render: Render) -> None:
        status, script, messages = render(MANY, inline=False)
        assert (status, script) == (5, "")
        assert re.search(
            r"root's part \(ensure_mount\) takes [0-9,]+ bytes, and the script has room for [0-9,]+", messages
        )
        assert "--assets DIR" in messages

    @pytest.mark.parametrize("place", ["s3://team-bucket/assets", "https://assets.example.com/x"])
    def test_it_is_written_beside_and_fetched_by_its_digest(self, render: Render, tmp_path: Path, place: str) -> None:
        status, script, _ = render(MANY, "--assets", str(tmp_path), "--assets-url", place, inline=False)
        assert status == 0
        part = packed(tmp_path, MANY)
        assert (tmp_path / part.name).read_bytes() == part.content
        assert f"{place}/{part.name}" in script
        assert script.count(part.sha256) >= 2
        assert len(script) <= MAX_BYTES
        subprocess.run(["/bin/sh", "-n"], input=script.encode(), check=True)

    def test_a_folder_that_the_user_can_write_is_no_place(self, render: Render, tmp_path: Path) -> None:
        volume = "/home/ec2-user/SageMaker/assets"
        status, script, messages = render(MANY, "--assets", str(tmp_path), "--assets-url", volume, inline=False)
        assert (status, script) == (5, "")
        assert "root reads nothing that the notebook's user can write" in messages

    def test_the_folder_to_write_it_into_is_needed(self, render: Render) -> None:
        status, script, messages = render(MANY, "--assets-url", "s3://team-bucket/assets", inline=False)
        assert (status, script) == (5, "")
        assert "--assets is missing" in messages

    def test_what_fits_needs_none(self, render: Render, tmp_path: Path) -> None:
        _, script, _ = render(
            PLAYBOOK, "--assets", str(tmp_path), "--assets-url", "s3://team-bucket/assets", inline=False
        )
        assert embedded(script)
        assert not list(tmp_path.glob("root-*"))

    @pytest.mark.skipif(os.geteuid() != 0, reason="root's part is root's")
    def test_what_is_fetched_runs_only_with_its_digest(self, render: Render, tmp_path: Path) -> None:
        """The lines of the script themselves; in the place of curl stands a program that copies a file."""
        _, script, _ = render(
            MANY, "--assets", str(tmp_path), "--assets-url", "https://assets.example.com/x", inline=False
        )
        match = re.search(
            r"<<'NBPROVISION-END-OF-ROOT-PART'.*?\n(.*?)\nNBPROVISION-END-OF-ROOT-PART", script, re.DOTALL
        )
        assert match is not None
        commands, home = tmp_path / "commands", tmp_path / "own"
        commands.mkdir()
        python, curl = commands / "python3", commands / "curl"
        python.write_text('#!/bin/sh\necho "ran $*"\n')
        curl.write_text(f'#!/bin/sh\necho "fetches"; while [ "$1" != -o ]; do shift; done; cp {tmp_path}/served "$2"\n')
        for program_ in (python, curl):
            program_.chmod(0o755)
        lines = match[1].replace("/var/lib/nbprovision", str(home)).replace("/usr/bin/python3", str(python))

        def start() -> tuple[int, str]:
            done = subprocess.run(
                ["/bin/sh", "-s"],
                input=lines,
                env={"PATH": f"{commands}:/usr/bin:/bin"},
                capture_output=True,
                text=True,
            )
            return done.returncode, done.stdout

        part = packed(tmp_path, MANY)
        (tmp_path / "served").write_bytes(part.content + b"import os")
        status, output = start()
        assert (status, "ran" in output) == (1, False)
        assert f"cannot get {part.name} from https://assets.example.com/x" in output
        (tmp_path / "served").write_bytes(part.content)
        status, output = start()
        assert (status, output) == (0, f"fetches\nran -I -S {home}/{part.name} 120 {part.sha256[:12]}\n")
        assert stat.S_IMODE(home.stat().st_mode) == 0o700
        assert start()[1].startswith("ran"), "it is fetched once"
        (home / part.name).write_bytes(b"harm")
        assert start()[1].startswith("fetches"), "what is damaged is fetched again"


@pytest.fixture
def own(tmp_path: Path) -> Iterator[Path]:
    """A folder for the report of a program that runs here."""
    folder = Path(f"/var/lib/nbprovision-test-{os.getpid()}-{tmp_path.name}")
    yield folder
    shutil.rmtree(folder, ignore_errors=True)


def run(part: RootPart, own: Path, seconds: int = 20) -> tuple[int, str]:
    """Run root's program as the script does, with its report and log in a folder of the test's."""
    source = part.content.decode().replace("/run/nbprovision", str(own))
    python = shutil.which("python3", path="/usr/bin") or shutil.which("python3")
    done = subprocess.run(
        [str(python), "-I", "-S", "-c", source, str(seconds), "abc"],
        capture_output=True,
        text=True,
        check=False,
        cwd="/",
    )
    return done.returncode, done.stdout + done.stderr


@pytest.mark.skipif(os.geteuid() != 0, reason="root's program is root's")
class TestTheProgram:
    def test_in_place_means_nothing_to_do(self, tmp_path: Path, own: Path) -> None:
        part = packed(
            tmp_path,
            "- root_tasks:\n    - ensure_mount: {name: nbprovision-none, source: 'h:/x', fstype: nfs4, state: absent}\n",
        )
        status, output = run(part, own)
        assert status == 0, output
        assert output.splitlines() == ["root: ok ensure_mount", "root's part: tasks=1 changed=0 failed=0"]
        report = json.loads((own / "root.json").read_text())
        assert report["program"] == "abc"
        assert [(task["kind"], task["status"]) for task in report["tasks"]] == [("ensure_mount", "ok")]

    def test_a_failure_is_one_line_and_the_others_go_on(self, tmp_path: Path, own: Path) -> None:
        if os.path.isdir("/run/systemd/system"):
            pytest.skip("systemd would mount it")
        text = "- root_tasks:\n    - ensure_mount: {name: nbprovision-none, source: 'h:/x', fstype: nfs4}\n    - ensure_mount: {name: nbprovision-none, source: 'h:/x', fstype: nfs4, state: absent}\n"
        status, output = run(packed(tmp_path, text), own)
        assert status == 2
        assert [line.split(":")[0] for line in output.splitlines()] == ["root"] * 2 + ["root's part"]
        assert "Traceback" not in output
        assert not Path("/mnt/nbprovision-none").exists()

    def test_no_time_left_is_said(self, tmp_path: Path, own: Path) -> None:
        text = (
            "- root_tasks:\n    - ensure_mount: {name: nbprovision-none, source: 'h:/x', fstype: nfs4, state: absent}\n"
        )
        status, output = run(packed(tmp_path, text), own, seconds=0)
        assert status == 2
        assert "no time was left" in output


@pytest.mark.parametrize("name", sorted(path.stem for path in Path(root.__file__).parent.glob("[a-z]*.py")))
def test_a_module_is_packed_with_its_meaning(name: str) -> None:
    """It stands in the program between quotes as it is, and with less indentation."""
    source = packer._bare(name)
    assert "'''" not in source
    ((_, packed),) = ast.literal_eval(f"[{packer.quoted(name, source)}]")
    assert packed == source + "\n"
    assert ast.dump(ast.parse(source)) == ast.dump(ast.parse(ast.unparse(packer._Bare().visit(packer._tree(name)))))
