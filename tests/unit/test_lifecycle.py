"""The rendered lifecycle script: what the platform asks of it, what each option puts there, and what is refused.

That it works is shown by running it, in tests/container.
"""

from __future__ import annotations

import base64
import gzip
import re
import shutil
import subprocess
from pathlib import Path

import msgspec
import pytest

from nbprovision.cli import main
from nbprovision.lifecycle.render import MAX_BYTES, Wanted, render
from nbprovision.model.errors import UsageError

PLAYBOOK = "/home/ec2-user/SageMaker/team.yml"
# Each says something that a shell would take for more than text.
HOSTILE = [
    "it's",
    'say "hi"',
    "$(touch /tmp/won)",
    "`id`",
    "a; reboot",
    "a && b | c > d",
    "-rf",
    "NBPROVISION-END",
    "NBPROVISION-END-OF-USER-PART",
    "@BOOTSTRAP@",
    "\\",
    "~root/*",
    "!!",
    "",
]

VARIANTS = {
    "path": Wanted(playbook=PLAYBOOK),
    "bucket": Wanted(playbook="s3://team-bucket/books/team.yml", tool="s3://team-bucket/wheels"),
    "inline": Wanted(playbook="- tasks: []\n# \u00e4\n", inline=True, tool="/home/ec2-user/SageMaker/wheels"),
    "index": Wanted(playbook=PLAYBOOK, tool="nbprovision>=0.1", index_url="https://pypi.example.com/simple"),
    "on-create": Wanted(playbook=PLAYBOOK, on_create=True, strict=True, seconds=280),
    "studio": Wanted(playbook="/home/sagemaker-user/team.yml", platform="studio"),
    "everything": Wanted(
        playbook="s3://team-bucket/it's.yml",
        tool="s3://team-bucket",
        strict=True,
        home="/home/ec2-user/SageMaker/own",
        environment={"HTTPS_PROXY": "http://proxy:3128"},
        options=["-e", "name=x y", "--tags", "a,b"],
    ),
}


def user_part(script: str) -> str:
    """What the notebook's user runs."""
    return script.split("<<'NBPROVISION-END-OF-USER-PART'\n")[1].split("\nNBPROVISION-END-OF-USER-PART\n", maxsplit=1)[
        0
    ]


def unpacked(script: str, before: str) -> str:
    """The file that a here-document after ``before`` holds."""
    block = script.split(before, 1)[1].split("\n", 1)[1].split("\nNBPROVISION-END\n", maxsplit=1)[0]
    return gzip.decompress(base64.b64decode(block)).decode()


@pytest.fixture(params=VARIANTS)
def script(request: pytest.FixtureRequest) -> str:
    return render(VARIANTS[request.param])


def test_it_is_what_the_platform_takes(script: str) -> None:
    assert script.startswith("#!/bin/sh\n")
    assert script.isascii()
    assert "\r" not in script
    assert "\t" not in script
    assert script.endswith("\n")
    assert len(base64.b64encode(script.encode())) <= 16_384
    assert not re.search(r"^@[A-Z_]+@$", script, re.MULTILINE)


@pytest.mark.parametrize("shell", ["sh", "dash", "bash --posix", "busybox sh"])
def test_shells_can_read_both_parts(script: str, shell: str) -> None:
    if not shutil.which(shell.split(maxsplit=1)[0]):
        pytest.skip(f"there is no {shell}")
    for part in (script, user_part(script)):
        checked = subprocess.run([*shell.split(), "-n"], input=part, text=True, capture_output=True)
        assert (checked.returncode, checked.stderr) == (0, "")


@pytest.mark.skipif(not shutil.which("shellcheck"), reason="there is no shellcheck")
def test_shellcheck_finds_nothing(script: str) -> None:
    for part in (script, "#!/bin/sh\n" + user_part(script)):
        checked = subprocess.run(["shellcheck", "-"], input=part, text=True, capture_output=True)
        assert (checked.returncode, checked.stdout) == (0, "")


def test_root_names_every_program_by_its_full_path(script: str) -> None:
    root = re.sub(r"^ *#.*$", "", script.replace(user_part(script), ""), flags=re.MULTILINE)
    root = re.sub(r"<<'NBPROVISION-END'\n.*?\nNBPROVISION-END\n", "\n", root, flags=re.DOTALL)
    root = re.sub(r"'[^'\n]*'|echo \"[^\"]*\"", "quoted", root)
    called = re.findall(r"(?:^|[;&|(]|\bif\b|\bthen\b)\s*([a-z][\w-]*)\b(?!=|\))", root, re.MULTILINE)
    assert set(called) <= {"umask", "cd", "exit", "exec", "if", "then", "fi", "case", "esac", "quoted", "in"}


def test_root_reads_and_writes_nothing_of_the_users() -> None:
    script = render(VARIANTS["everything"])
    root = script.split("/usr/bin/timeout")[0]
    assert [line for line in root.splitlines() if "/home/" in line] == [
        'if [ "$(/usr/bin/id -un)" = ec2-user ]; then PATH=$PATH:/home/ec2-user/SageMaker/own/bin; fi'
    ]


@pytest.mark.parametrize("value", HOSTILE)
def test_whatever_a_value_says_it_stays_one_word(value: str, tmp_path: Path) -> None:
    script = render(
        Wanted(playbook=PLAYBOOK, tool=value or "x", environment={"V": value}, options=["-e", f"v={value}"])
    )
    call = next(line for line in script.splitlines() if 'sh "$own/bootstrap.sh"' in line)
    setting = re.search(r"^    V=(.*?) \\$", script, re.MULTILINE) or re.search(r"^    V=(.*)$", script, re.MULTILINE)
    source = next(line for line in script.splitlines() if "NBPROVISION_SOURCE=" in line)
    assert setting is not None
    probe = (
        f'own=/o; playbook=/p; sh() {{ for word; do printf "%s\\n" "$word"; done; }}\n{source}\n{call}\n'
        f'printf "%s\\n" "$NBPROVISION_SOURCE"\nV={setting[1]}\nprintf "%s\\n" "$V"\n'
    )
    told = subprocess.run(["sh", "-c", probe], capture_output=True, text=True, cwd=tmp_path, check=True).stdout
    assert told.split("\n") == [
        "/o/bootstrap.sh", "/p", "--deadline", "235", "-e", f"v={value}", value or "x", value, "",
    ]  # fmt: skip


def test_an_inline_playbook_arrives_byte_for_byte() -> None:
    content = "- name: \u00e4\n  vars: {a: \"NBPROVISION-END\"}\n'$(id)'\n\nNBPROVISION-END\n"
    assert unpacked(render(Wanted(playbook=content, inline=True)), 'unpack "$playbook"') == content


def test_the_bootstrap_within_is_the_one_beside_the_package() -> None:
    within = unpacked(render(VARIANTS["path"]), 'unpack "$own/bootstrap.sh"').splitlines()
    beside = (Path(__file__).parents[2] / "bootstrap.sh").read_text().splitlines()
    assert [line for line in beside if line in set(within)] == within
    assert all(not line.strip() or line.lstrip().startswith("#") for line in beside if line not in set(within))


def test_a_script_that_is_too_large_is_refused_with_its_size() -> None:
    import random

    noise = "".join(random.Random(1).choices("abcdefghijklmnopqrstuvwxyz0123456789", k=9000))
    with pytest.raises(UsageError, match=rf"has [0-9,]+ bytes, and the platform takes {MAX_BYTES:,}"):
        render(Wanted(playbook=noise, inline=True))


def test_strict_passes_a_failure_on_and_the_other_does_not() -> None:
    for strict, expected in ((False, {0: 0, 2: 0, 7: 0, 124: 0}), (True, {0: 0, 2: 2, 7: 0, 124: 124})):
        ending = render(Wanted(playbook=PLAYBOOK, strict=strict)).split("NBPROVISION-END-OF-USER-PART\nstatus=$?\n")[1]
        for status, mapped in expected.items():
            ended = subprocess.run(["sh", "-c", f"status={status}\n{ending}"], capture_output=True, text=True)
            assert ended.returncode == mapped
            assert ended.stdout.startswith("nbprovision: ")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"playbook": "team.yml"}, "neither an absolute path"),
        ({"playbook": "s3://B/x"}, "no URL of the form"),
        ({"playbook": "/a\nb"}, "cannot stand"),
        ({"playbook": "/\u00e4"}, "printable ASCII"),
        ({"tool": "s3://"}, "no URL of the form"),
        ({"tool": "a\rb"}, "cannot stand"),
        ({"index_url": "https://user:secret@host/simple"}, "must not bring a password"),
        ({"index_url": "ftp://host"}, "is no URL"),
        ({"home": "relative"}, "no absolute path"),
        ({"home": "/a b"}, "no absolute path"),
        ({"home": "/a$(id)"}, "no absolute path"),
        ({"seconds": 300}, "between 30 and 295"),
        ({"seconds": 1}, "between 30 and 295"),
        ({"environment": {"A B": "x"}}, "cannot be set"),
        ({"environment": {"PATH": "x"}}, "cannot be set"),
        ({"options": ["\x1b[31m"]}, "cannot stand"),
    ],
)
def test_what_cannot_stand_in_a_script_is_refused(change: dict[str, object], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        render(msgspec.structs.replace(Wanted(playbook=PLAYBOOK), **change))


def test_the_command_prints_the_script(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    playbook = tmp_path / "team.yml"
    playbook.write_text("- tasks: []\n")
    words = [
        "lifecycle",
        "render",
        str(playbook),
        "--inline",
        "--strict",
        "--deadline",
        "100",
        "--env",
        "A=b",
        "-e",
        "x=1",
    ]
    assert main(words) == 0
    wanted = Wanted(
        playbook="- tasks: []\n",
        inline=True,
        strict=True,
        seconds=100,
        environment={"A": "b"},
        options=["--extra-vars", "x=1"],
    )
    assert capsys.readouterr().out == render(wanted)


@pytest.mark.parametrize(
    "words",
    [["render"], ["render", "x.yml"], ["render", "/x", "--inline"], ["render", "/x", "--env", "A"], ["brew", "/x"], []],
)
def test_bad_options_end_with_5_and_nothing_on_standard_output(
    words: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["lifecycle", *words]) == 5
    told = capsys.readouterr()
    assert told.out == ""
    assert told.err.startswith("error: ")
