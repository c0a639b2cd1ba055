"""What `lifecycle render` finds of a playbook before it goes into a script, and the files that go with it."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import pytest

from nbprovision.catalogue import Catalogue
from nbprovision.cli import main
from nbprovision.cli.lint import assumed
from nbprovision.lifecycle.payload import SCRIPT
from nbprovision.lifecycle.playbook import Checked, examine, handed_on
from nbprovision.model.errors import InvalidPlaybook, UsageError
from nbprovision.playbook.extra_vars import parse_extra_vars

SAMPLES = sorted((Path(__file__).parents[2] / "playbooks").glob("*.yml"))
ENV = {"PATH": "/usr/bin:/bin", "LANG": "C.UTF-8"}


def write(folder: Path, files: dict[str, str | bytes]) -> Path:
    """Write files; the first is the playbook."""
    for name, content in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content.encode() if isinstance(content, str) else content)
    return folder / next(iter(files))


def examined(playbook: Path, extra: Iterable[str] = (), **more: list[str]) -> Checked:
    machine = assumed("notebook-instance", ENV, Path("/"))
    return examine(playbook, machine, Catalogue(), parse_extra_vars(extra), **more)


def tasks(*lines: str) -> str:
    return "- tasks:\n" + "".join(f"    - {line}\n" for line in lines)


FRAUD = "ensure_conda_env: {name: fraud, packages: [python=3.12]}"


# ------------------------------------------------------------------------------------------------- what is refused


@pytest.mark.parametrize(
    ("text", "place", "words"),
    [
        ("", ":1:1", "the playbook is empty"),
        ("- tasks:\n  - ensure_kernle: {}\n", ":2:5", "ensure_kernle"),
        ("- tasks:\n  - ensure_file: {path: /x, contents: a}\n", ":2:29", "no parameter 'contents'"),
        ("- tasks:\n  - ensure_file: {path: '{{ nowhere }}'}\n", ":2:25", "nowhere"),
        ("- tasks: [\n", ":2:1", "close every quote and bracket"),
        ("- tasks: []\n", ":1:3", "the playbook has nothing to do"),
        ("- hosts: localhost\n- tasks:\n", ":1:3", "the playbook has nothing to do"),
        ("- handlers:\n  - {name: r, restart_jupyter: {}}\n", ":1:3", "the playbook has nothing to do"),
    ],
)
def test_an_invalid_playbook_is_refused_with_its_place(
    tmp_path: Path, text: str, place: str, words: str, capsys: pytest.CaptureFixture[str]
) -> None:
    playbook = write(tmp_path, {"team.yml": text})
    assert main(["lifecycle", "render", str(playbook), "--inline"]) == 4
    told = capsys.readouterr()
    assert told.out == ""
    assert f"error: {playbook}{place}" in told.err
    assert words in told.err


def test_a_missing_playbook_is_refused_with_4(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["lifecycle", "render", str(tmp_path / "no.yml"), "--inline"]) == 4
    assert "no.yml" in capsys.readouterr().err


def test_every_fault_is_named(tmp_path: Path) -> None:
    playbook = write(tmp_path, {"p.yml": tasks("ensure_file: {contents: a}", "ensure_x: {}")})
    with pytest.raises(InvalidPlaybook) as caught:
        examined(playbook)
    assert "'contents'" in str(caught.value)
    assert "ensure_x" in str(caught.value)


def test_values_of_extra_vars_count(tmp_path: Path) -> None:
    playbook = write(tmp_path, {"p.yml": tasks("ensure_file: {path: '/x/{{ team }}'}")})
    with pytest.raises(InvalidPlaybook, match="team"):
        examined(playbook)
    assert next(iter(examined(playbook, ["team=fraud"]).payload.files)) == "p.yml"


@pytest.mark.parametrize(
    "line",
    [
        "{ensure_file: {path: /home/ec2-user/SageMaker/x, content: \"{{ lookup('env', 'TEAM_TOKEN') }}\"}}",
        "{when: \"lookup('env', 'TEAM') == 'a'\", ensure_file: {path: /home/ec2-user/SageMaker/x}}",
        "{when: nb.gpu and nb.cpus > 64, ensure_file: {path: /home/ec2-user/SageMaker/x}}",
        "ensure_pip_pkg: {env: pytorch_p310, packages: [idna]}",
        "ensure_pip_pkg: {env: made-by-hand, packages: [idna]}",
        "ensure_file: {path: /x, content: \"{{ lookup('file', '/home/ec2-user/SageMaker/secret') }}\"}",
    ],
)
def test_what_only_the_instance_knows_is_no_fault(tmp_path: Path, line: str) -> None:
    assert examined(write(tmp_path, {"p.yml": tasks(line)})).payload.files


def test_warnings_of_lint_do_not_stop(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    playbook = write(tmp_path, {"p.yml": tasks("ensure_pip_pkg: {env: pytorch_p310, packages: [idna]}")})
    assert main(["lifecycle", "render", str(playbook), "--inline", "--tool", "s3://team/wheels"]) == 0
    told = capsys.readouterr()
    assert told.out.startswith("#!/bin/sh")
    assert f"warning: {playbook}:2:29: " in told.err
    assert "[hard-coded-environment]" in told.err


def test_a_name_that_cannot_stand_in_a_script_is_refused_with_its_place(tmp_path: Path) -> None:
    named = write(tmp_path, {"p.yml": tasks("ensure_file: {path: /x, src: \u00e9.txt}"), "\u00e9.txt": "x"})
    with pytest.raises(InvalidPlaybook, match=r"p\.yml:2:\d+: .*\u00e9\.txt has '\u00e9' in its name") as caught:
        examined(named)
    assert caught.value.cure == "rename it"
    itself = write(tmp_path / "\u00e4", {"\u00e9.yml": tasks("ensure_file: {path: /x}")})
    with pytest.raises(InvalidPlaybook, match=r"\u00e9\.yml has '\u00e9' in its name"):
        examined(itself)
    itself.rename(itself.with_name("e.yml"))
    assert list(examined(itself.with_name("e.yml")).payload.files) == ["e.yml"], (
        "its folder does not go into the script"
    )


def test_an_unknown_tag_is_a_warning(tmp_path: Path) -> None:
    playbook = write(tmp_path, {"p.yml": tasks("{tags: [kernels], ensure_file: {path: /x}}")})
    assert examined(playbook, tags=["kernel"]).notes == ("no task has the tag 'kernel'; did you mean 'kernels'?",)
    assert examined(playbook, tags=["kernels", "all"], skip_tags=["never"]).notes == ()


# --------------------------------------------------------------------------------------------------- text of Windows


def test_a_playbook_of_windows_becomes_one_of_linux(tmp_path: Path) -> None:
    text = b"\xef\xbb\xbf- tasks:\r\n    - ensure_file: {path: /x}\r\n"
    found = examined(write(tmp_path, {"p.yml": text}))
    assert found.payload.files["p.yml"] == b"- tasks:\n    - ensure_file: {path: /x}\n"
    assert [note.partition(": ")[2].split(" ")[1] for note in found.notes] == ["byte-order", "line"]


def test_utf_16_is_named(tmp_path: Path) -> None:
    with pytest.raises(InvalidPlaybook, match="UTF-16"):
        examined(write(tmp_path, {"p.yml": "- tasks: []\n".encode("utf-16")}))


def test_a_program_with_line_ends_of_windows_is_refused(tmp_path: Path) -> None:
    playbook = write(
        tmp_path, {"p.yml": tasks("ensure_file: {path: /x, src: go.sh}"), "go.sh": b"#!/bin/sh\r\necho\r\n"}
    )
    with pytest.raises(InvalidPlaybook, match=r"p\.yml:2:.*go\.sh has line ends of Windows") as caught:
        examined(playbook)
    assert "^M: bad interpreter" in caught.value.cause


# ------------------------------------------------------------------------------------------------------- its files


def test_every_file_that_a_playbook_names_is_packed(tmp_path: Path) -> None:
    playbook = write(
        tmp_path,
        {
            "p.yml": (
                "- import_playbook: more/other.yml\n"
                "- vars_files: [vars/team.yml]\n"
                "  handlers: [{name: h, ensure_file: {path: /y, src: handler.txt}}]\n"
                + tasks(
                    "import_tasks: lists/a.yml",
                    "{when: nb.gpu, include_tasks: lists/gpu.yml}",
                    FRAUD,
                    "ensure_conda_env: {name: ds, file: ds.yml}",
                    "ensure_pip_pkg: {env: fraud, requirements: req/base.txt, constraints: req/limits.txt}",
                    "ensure_pip_pkg: {env: fraud, requirements: late.txt, packages: [\"a=={{ lookup('env', 'V') }}\"]}",
                    "ensure_file: {path: /x, src: tool}",
                    "ensure_file: {path: /z, template: motd.j2}",
                    "ensure_file: {path: /f, src: folder}",
                    "{ensure_file: {path: '/g/{{ item | basename }}', src: '{{ item }}'}, "
                    "loop: \"{{ query('fileglob', 'glob/*.txt') }}\", notify: h}",
                    "ensure_file: {path: /t, content: \"{{ lookup('file', 'said.txt') }}\"}",
                    "ensure_command: {shell: 'sh {{ playbook_dir }}/run.sh; true'}",
                    "{when: nb.platform == 'studio', ensure_file: {path: /s, src: studio.txt}}",
                )
                .removeprefix("- ")
                .replace("tasks:", "  tasks:", 1)
            ),
            "more/other.yml": tasks("ensure_file: {path: /o, src: beside.txt}"),
            "more/beside.txt": "b",
            "vars/team.yml": "team: a\n",
            "handler.txt": "h",
            "lists/a.yml": "- ensure_file: {path: /a, src: a.txt}\n",
            "lists/a.txt": "a",
            "lists/gpu.yml": "- ensure_file: {path: /b, src: gpu.txt}\n",
            "lists/gpu.txt": "g",
            "ds.yml": "dependencies: [python, pip, {pip: [-r req/ds.txt]}]\n",
            "req/ds.txt": "idna\n",
            "req/base.txt": "-r deep/more.txt\n-c limits.txt\nrequests\n",
            "req/deep/more.txt": "idna @ https://${HOST}/idna-3-py3-none-any.whl\n",
            "req/limits.txt": "idna<4\n",
            "late.txt": "idna\n",
            "run.sh": "true\n",
            "tool": "#!/bin/sh\n",
            "motd.j2": "{{ team }}",
            "folder/one": "1",
            "folder/in/two": "2",
            "glob/x.txt": "x",
            "glob/y.md": "y",
            "said.txt": "said",
            "studio.txt": "s",
            "unnamed.txt": "u",
        },
    )
    (tmp_path / "tool").chmod(0o755)
    payload = examined(playbook).payload
    everything = {str(path.relative_to(tmp_path)) for path in tmp_path.rglob("*") if path.is_file()}
    assert set(payload.files) == everything - {"unnamed.txt", "glob/y.md"}
    assert next(iter(payload.files)) == "p.yml"
    assert payload.executable == {"tool"}
    assert len(payload.files["folder/in/two"]) == 1
    assert list(examined(playbook).payload.files) == list(payload.files)


@pytest.mark.parametrize("sample", SAMPLES, ids=lambda path: path.stem)
def test_what_is_packed_is_whole(sample: Path, tmp_path: Path) -> None:
    """Unpacked in an empty folder, a playbook finds everything again."""
    payload = examined(sample).payload
    for name, content in payload.files.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(content)
    assert examined(tmp_path / next(iter(payload.files))).payload.files == payload.files


def test_files_keep_their_places_to_one_another(tmp_path: Path) -> None:
    playbook = write(
        tmp_path, {"team/books/p.yml": tasks("ensure_file: {path: /x, src: ../shared/x}"), "team/shared/x": "x"}
    )
    assert list(examined(playbook).payload.files) == ["books/p.yml", "shared/x"]


def test_files_without_a_common_folder_are_refused(tmp_path: Path) -> None:
    up = "../" * (len(tmp_path.parts) - 1)
    playbook = write(tmp_path, {"p.yml": tasks(f"ensure_file: {{path: /x, src: {up}etc/hostname}}")})
    with pytest.raises(InvalidPlaybook, match=r"p\.yml:2:\d+: .*hostname shares no folder"):
        examined(playbook)


def test_a_lock_is_packed_with_the_files_beside_it_that_it_names(tmp_path: Path) -> None:
    head = "lock-version = '1.0'\ncreated-by = 'x'\n[[packages]]\nname = 'x'\n"
    hashes = f"hashes = {{ sha256 = '{'0' * 64}' }}"
    text = f"{head}wheels = [{{ path = '../wheels/x-1.0-py3-none-any.whl', {hashes} }}]\n"
    playbook = write(
        tmp_path,
        {
            "p.yml": tasks(FRAUD, "ensure_pip_pkg: {env: fraud, requirements: locks/pylock.toml}"),
            "locks/pylock.toml": text,
            "wheels/x-1.0-py3-none-any.whl": "x",
        },
    )
    packed = examined(playbook).payload
    assert list(packed.files) == ["p.yml", "locks/pylock.toml", "wheels/x-1.0-py3-none-any.whl"]
    (tmp_path / "locks/pylock.toml").write_text(head)
    with pytest.raises(InvalidPlaybook, match=r"locks/pylock\.toml:3:1: the lock is not valid"):
        examined(playbook)


def test_absolute_paths_are_those_of_the_instance(tmp_path: Path) -> None:
    place = "/home/ec2-user/SageMaker/req.txt"
    playbook = write(
        tmp_path, {"p.yml": tasks(FRAUD, f"ensure_pip_pkg: {{env: fraud, requirements: [{place}, own.txt]}}"),
                   "own.txt": "-r /home/ec2-user/SageMaker/base.txt\nidna\n"}
    )  # fmt: skip
    found = examined(playbook)
    assert list(found.payload.files) == ["p.yml", "own.txt"]
    assert [note.split(" is not packed")[0] for note in found.notes] == [
        f"{playbook}:3:50: {place}",
        f"{tmp_path}/own.txt:1:1: /home/ec2-user/SageMaker/base.txt",
    ]


def test_what_a_task_makes_is_not_looked_for(tmp_path: Path) -> None:
    playbook = write(
        tmp_path, {"p.yml": tasks("ensure_file: {path: made, content: a}", "ensure_file: {path: /x, src: made}")}
    )
    assert list(examined(playbook).payload.files) == ["p.yml"]
    (tmp_path / "made").mkdir()
    assert list(examined(playbook).payload.files) == ["p.yml"]


def test_what_a_task_edits_is_packed(tmp_path: Path) -> None:
    playbook = write(
        tmp_path,
        {"p.yml": tasks("ensure_line: {path: conf, line: a}", "ensure_file: {path: /x, src: conf}"), "conf": "b\n"},
    )
    assert list(examined(playbook).payload.files) == ["p.yml", "conf"]


@pytest.mark.parametrize(
    ("line", "place"),
    [
        ("ensure_file: {path: /x, src: no.txt}", "2:36"),
        ("ensure_conda_env: {name: a, file: no.txt}", "2:41"),
        ("ensure_pip_pkg: {env: python3, requirements: [no.txt]}", "2:53"),
        ("ensure_pip_pkg: {env: python3, packages: [./no.txt]}", "2:49"),
    ],
)
def test_a_missing_file_is_refused_with_the_line_that_names_it(tmp_path: Path, line: str, place: str) -> None:
    playbook = write(tmp_path, {"p.yml": tasks(line)})
    with pytest.raises(InvalidPlaybook, match=r"no\.txt") as caught:
        examined(playbook)
    assert caught.value.position is not None
    assert str(caught.value.position) == f"{playbook}:{place}"
    assert "/proc/" not in str(caught.value)


def test_a_missing_file_of_tasks_is_refused_whatever_its_condition(tmp_path: Path) -> None:
    playbook = write(tmp_path, {"p.yml": tasks("{when: nb.gpu, include_tasks: no.yml}")})
    with pytest.raises(InvalidPlaybook, match=r"p\.yml:2:\d+: the file of tasks /.*no\.yml does not exist") as caught:
        examined(playbook)
    assert "/proc/" not in str(caught.value)


def test_a_shell_script_is_no_playbook(tmp_path: Path) -> None:
    with pytest.raises(InvalidPlaybook, match=r"start\.sh:1:1: "):
        examined(write(tmp_path, {"start.sh": "echo: hello\n"}))


def test_a_missing_nested_file_is_refused_with_its_own_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(tmp_path, {"p.yml": tasks("ensure_pip_pkg: {env: python3, requirements: r.txt}"), "r.txt": "\n-r no.txt\n"})
    monkeypatch.chdir(tmp_path)
    with pytest.raises(InvalidPlaybook, match=r"^r\.txt:2:1: no\.txt is missing"):
        examined(Path("p.yml"))


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"\x7fELF\0\0", "is not text (6 bytes)"),
        (b"a" * (SCRIPT.most + 1), f"has {SCRIPT.most + 1:,} bytes"),
    ],
)
def test_what_no_script_can_hold_is_refused_with_its_size(tmp_path: Path, content: bytes, words: str) -> None:
    playbook = write(tmp_path, {"p.yml": tasks("ensure_file: {path: /x, src: big}"), "big": content})
    with pytest.raises(InvalidPlaybook) as caught:
        examined(playbook)
    assert f"big {words}" in caught.value.message
    assert "absolute path" in caught.value.cure


def test_a_link_in_a_folder_is_refused(tmp_path: Path) -> None:
    playbook = write(tmp_path, {"p.yml": tasks("ensure_file: {path: /x, src: f}"), "f/a": "a"})
    (tmp_path / "f/link").symlink_to("a")
    with pytest.raises(InvalidPlaybook, match="f/link is a link"):
        examined(playbook)


def test_a_file_name_that_only_the_instance_knows_is_refused(tmp_path: Path) -> None:
    playbook = write(tmp_path, {"p.yml": "- vars_files: [\"{{ lookup('env', 'TEAM') }}.yml\"]\n  tasks: []\n"})
    with pytest.raises(InvalidPlaybook, match=r"p\.yml:1:16: the files of the playbook are unknown") as caught:
        examined(playbook)
    assert "--env" in caught.value.cure


# --------------------------------------------------------------------------------------------------------------- -e


def test_a_file_of_variables_goes_in_as_its_values(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    playbook = write(tmp_path, {"p.yml": tasks("ensure_file: {path: '/x/{{ team }}'}"), "v.yml": "team: [a, é]\n"})
    handed = handed_on(["a=b", f"@{tmp_path}/v.yml"])
    assert handed.arguments == ("a=b", '{"team": ["a", "\\u00e9"]}')
    assert parse_extra_vars(handed.arguments) == {"a": "b", "team": ["a", "é"]} == handed.variables
    assert (
        main(["lifecycle", "render", str(playbook), "--inline", "--tool", "s3://team/w", "-e", f"@{tmp_path}/v.yml"])
        == 0
    )
    assert """'{"team": ["a", "\\u00e9"]}'""" in capsys.readouterr().out


def test_a_file_of_variables_of_the_instance_is_left_alone() -> None:
    handed = handed_on(["@/home/ec2-user/SageMaker/vars.yml"])
    assert handed.arguments == ("@/home/ec2-user/SageMaker/vars.yml",)
    assert "on the machine itself" in handed.notes[0]


def test_a_missing_file_of_variables_is_refused() -> None:
    with pytest.raises(UsageError, match=r"vars\.yml does not exist"):
        handed_on(["@vars.yml"])
