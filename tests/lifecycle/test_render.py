"""The rendered lifecycle script: what the platform asks of it, what each option puts there, and what is refused.

That it works is shown by running it, in tests/container.
"""

from __future__ import annotations

import base64
import gzip
import hashlib
import io
import itertools
import re
import shlex
import shutil
import subprocess
import tarfile
from pathlib import Path
from typing import Any

import msgspec
import pytest

from nbprovision import __version__
from nbprovision.cli import main
from nbprovision.lifecycle.render import BOOTSTRAP_NAME, MAX_BYTES, ScriptRequest, bootstrap, render
from nbprovision.model.errors import UsageError

PLAYBOOK = "/home/ec2-user/SageMaker/team.yml"
WHEELS = "/home/ec2-user/SageMaker/wheels"
HASH = "0123456789abcdef" * 4
WHEEL_URL = f"https://h/nbprovision-{__version__}-py3-none-any.whl"
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
    "path": ScriptRequest(playbook=PLAYBOOK, tool=WHEELS),
    "bucket": ScriptRequest(playbook="s3://team-bucket/books/team.yml", tool="s3://team-bucket/wheels"),
    "inline": ScriptRequest(
        playbook="team.yml",
        payload={"team.yml": "- tasks: []\n# \u00e4\n".encode(), "tasks/more.yml": b"[]\n"},
        tool=WHEELS,
    ),
    "index": ScriptRequest(playbook=PLAYBOOK, tool="nbprovision>=0.1", index_url="https://pypi.example.com/simple"),
    "index alone": ScriptRequest(playbook=PLAYBOOK, index_url="https://pypi.example.com/simple"),
    "public index": ScriptRequest(playbook=PLAYBOOK, tool=f"pypi:nbprovision=={__version__}", sha256=HASH),
    "wheel by https": ScriptRequest(playbook=PLAYBOOK, tool=WHEEL_URL, sha256=HASH),
    "on-create": ScriptRequest(playbook=PLAYBOOK, tool=WHEELS, on_create=True, strict=True, seconds=280),
    "studio": ScriptRequest(playbook="/home/sagemaker-user/team.yml", platform="studio", tool="~/wheels"),
    "bundle": ScriptRequest(playbook="/home/ec2-user/SageMaker/the team's.tar"),
    "bundle in a bucket": ScriptRequest(playbook="s3://team-bucket/books/the team's.tar"),
    "ring": ScriptRequest(ring="s3://team-bucket/the team's/rings/stable", tool="s3://team-bucket/the team's/wheels"),
    "https": ScriptRequest(playbook=PLAYBOOK, tool=WHEELS, assets_url="https://assets.example.com/nbprovision/"),
    "everything": ScriptRequest(
        playbook="team.yml",
        payload={
            "team.yml": b"""\
- name: Team
  tasks:
    - ensure_conda_env:
        name: team
        packages: [python, pip, ipykernel]
    - ensure_kernel:
        env: team
        display_name: Team
        environment: {GREETING: hello}
"""
        },
        tool="s3://team-bucket/wheels",
        assets_url="s3://team-bucket/assets",
        index_url="https://pypi.example.com/simple",
        strict=True,
        home="/home/ec2-user/SageMaker/own",
        environment={"HTTPS_PROXY": "http://proxy:3128"},
        options=["-e", "name=x y", "--tags", "a,b"],
        user_playbook="/home/ec2-user/SageMaker/nbprovision.yml",
        on_finish='aws sns publish --topic-arn arn:aws:sns:eu-west-1:123456789012:books --message "$NBPROVISION_RESULT"',
    ),
}


def user_part(script: str) -> str:
    """What the notebook's user runs."""
    return script.split("<<'NBPROVISION-END-OF-USER-PART'\n")[1].split("\nNBPROVISION-END-OF-USER-PART\n", maxsplit=1)[
        0
    ]


def unpacked(script: str) -> dict[str, bytes]:
    """The files that a script brings along."""
    block = script.rsplit(" <<'NBPROVISION-END'\n", maxsplit=1)[-1].split("\nNBPROVISION-END\n", maxsplit=1)[0]
    with tarfile.open(fileobj=io.BytesIO(gzip.decompress(base64.b64decode(block)))) as archive:
        return {entry.name: archive.extractfile(entry).read() for entry in archive}  # type: ignore[union-attr]


@pytest.fixture(params=VARIANTS)
def script(request: pytest.FixtureRequest) -> str:
    return render(VARIANTS[request.param])


def test_it_is_small_with_every_option() -> None:
    """What it does grows in the file that it gets, not in the script."""
    assert max(len(render(wanted)) for wanted in VARIANTS.values()) <= 6000


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
        # Their own exceptions stand in the template, whose comments are left out.
        checked = subprocess.run(
            ["shellcheck", "--exclude=SC2016,SC2086", "-"], input=part, text=True, capture_output=True
        )
        assert (checked.returncode, checked.stdout) == (0, "")


def test_root_names_every_program_by_its_full_path(script: str) -> None:
    root = script.replace(user_part(script), "")
    root = re.sub(r"<<'NBPROVISION-END'\n.*?\nNBPROVISION-END\n", "\n", root, flags=re.DOTALL)
    root = re.sub(r"^ *#.*$|(?<= )# .*$", "", root, flags=re.MULTILINE)
    root = re.sub(r"\[!?[^\] ]*\]", "", root)  # classes of characters
    root = re.sub(r"'[^']*'|echo \"[^\"]*\"|\"[^\"]*\"", "quoted", root)
    called = re.findall(r"(?:^|[;&|(]|\bif\b|\bthen\b|\bdo\b|!)\s*([a-z][\w-]*)\b(?!=|\)|\(|\*)", root, re.MULTILINE)
    builtins = {"echo", "umask", "cd", "exit", "exec", "read", "wait", "kill", "set", "continue", "trap"}
    assert set(called) <= builtins | {"quoted", "tenths", "if", "then", "fi", "case", "esac", "for", "do", "done", "in"}


def test_root_reads_and_writes_nothing_of_the_users() -> None:
    script = render(VARIANTS["everything"])
    root = script.replace(user_part(script), "")
    assert [line for line in root.splitlines() if "/home/" in line] == [
        'if [ "$(/usr/bin/id -un)" = ec2-user ]; then PATH=$PATH:/home/ec2-user/SageMaker/own/bin; fi',
        "    /usr/bin/env $clean HOME=/home/ec2-user USER=ec2-user LOGNAME=ec2-user LANG=C.UTF-8 PATH=/usr/local/bin:/usr/bin:/bin \\",
        "    NBPROVISION_HOME=/home/ec2-user/SageMaker/own \\",
        "    NBPROVISION_USER_PLAYBOOK=/home/ec2-user/SageMaker/nbprovision.yml \\",
        '*) word=failed && echo "The lines above say why; /home/ec2-user/SageMaker/own/log has more." ;;',
    ]


def test_in_studio_the_users_part_keeps_the_variables_that_lead_to_aws(tmp_path: Path) -> None:
    """Credentials are at an address that only a variable names; root's variables still go no further."""
    shown = {}
    for studio in (True, False):
        places = {"playbook": "/home/sagemaker-user/team.yml", "platform": "studio"} if studio else {}
        script = render(ScriptRequest(**{"playbook": PLAYBOOK, "tool": "/wheels", **places}))  # type: ignore[arg-type]
        # This test may run as root, the script of a space never does; and here is no such user.
        script = script.replace("$(/usr/bin/id -u)", "1" if studio else "0").replace(user_part(script), "env\n")
        script = re.sub(r"/usr/sbin/runuser -u \S+ --", "", script).replace("/run/nbprovision", str(tmp_path / "run"))
        script = re.sub(r"/etc/profile.d/|/run/systemd/system", f"{tmp_path}/none", script)
        env = {"AWS_CONTAINER_CREDENTIALS_RELATIVE_URI": "/x", "PATH": "/nowhere"}
        done = subprocess.run(["/bin/sh", "-c", script], env=env, capture_output=True, text=True)
        shown[studio] = dict(line.split("=", 1) for line in done.stdout.splitlines() if "=" in line)
    assert shown[True]["AWS_CONTAINER_CREDENTIALS_RELATIVE_URI"] == "/x"
    assert shown[True]["PATH"] == "/opt/conda/bin:/usr/local/bin:/usr/bin:/bin"
    assert "AWS_CONTAINER_CREDENTIALS_RELATIVE_URI" not in shown[False]
    assert shown[False]["HOME"] == "/home/ec2-user"


@pytest.mark.parametrize("value", HOSTILE)
def test_whatever_a_value_says_it_stays_one_word(value: str, tmp_path: Path) -> None:
    script = render(
        ScriptRequest(
            playbook=PLAYBOOK,
            tool=f"/wheels/{value}",
            environment={"V": value},
            options=["-e", f"v={value}"],
            on_finish=value,
        )
    )
    call = next(line for line in script.splitlines() if 'sh "$file"' in line)
    settings = re.findall(r"^    ((?:V|NBPROVISION_SOURCE|NBPROVISION_ON_FINISH)=.*?) \\$", script, re.MULTILINE)
    probe = (
        f'file=/f; sh() {{ for word; do printf "%s\\n" "$word"; done; }}\n{call}\n'
        + "\n".join(settings)
        + '\nfor value in "$NBPROVISION_ON_FINISH" "$NBPROVISION_SOURCE" "$V"; do printf "%s\\n" "$value"; done\n'
    )
    shown = subprocess.run(["sh", "-c", probe], capture_output=True, text=True, cwd=tmp_path, check=True).stdout
    words = ["/f", PLAYBOOK, "--deadline", "236", "-e", f"v={value}", value, f"/wheels/{value}", value, ""]
    assert shown.split("\n") == words


def test_an_inline_playbook_and_its_files_arrive_byte_for_byte() -> None:
    content = "- name: \u00e4\n  vars: {a: \"NBPROVISION-END\"}\n'$(id)'\n\nNBPROVISION-END\n".encode()
    files = {"team.yml": content, "tasks/a b.yml": b"[]\r\n"}
    script = render(ScriptRequest(playbook="team.yml", tool=WHEELS, payload=files))
    assert unpacked(script) == files
    assert "inline:team.yml" in script
    assert render(ScriptRequest(playbook="team.yml", tool=WHEELS, payload=files)) == script, (
        "the same files give the same script"
    )


def test_the_second_stage_is_the_file_beside_the_package(script: str) -> None:
    beside = (Path(__file__).parents[2] / "bootstrap.sh").read_bytes()
    assert bootstrap() == beside
    assert f"nbprovision-{__version__}-bootstrap.sh" == BOOTSTRAP_NAME
    assert f"'{hashlib.sha256(beside).hexdigest()}  -'" in script


def test_a_script_that_is_too_large_is_refused_with_its_size() -> None:
    import random

    noise = "".join(random.Random(1).choices("abcdefghijklmnopqrstuvwxyz0123456789", k=9000))
    with pytest.raises(UsageError, match=rf"has [0-9,]+ bytes, and the platform accepts {MAX_BYTES:,}"):
        render(ScriptRequest(playbook="team.yml", tool=WHEELS, payload={"team.yml": noise.encode()}))


@pytest.mark.parametrize("strict", [False, True])
@pytest.mark.parametrize(
    ("status", "facts", "last"),
    [
        (0, "localhost : ok=1 changed=5 skipped=0 failed=0 deferred=0 (0.1 s)",
         "done status=0 seconds=3.2 changed=5 failed=0 version=V hook=on-start"),
        (0, "nbprovision: result skipped", "skipped status=0 seconds=3.2 changed=- failed=- version=V hook=on-start"),
        (2, "localhost : ok=1 changed=0 skipped=0 failed=3 deferred=0 (1 s)",
         "failed status=2 seconds=3.2 changed=0 failed=3 version=V hook=on-start"),
        (7, "nbprovision: result worker", "background status=7 seconds=3.2 changed=- failed=- version=V hook=on-start"),
        (4, "nbprovision: result fallback=tool used=0.9.0 version=0.9.0",
         "failed status=4 fallback=tool used=0.9.0 seconds=3.2 changed=- failed=- version=0.9.0 hook=on-start"),
        (124, "", "failed status=124 seconds=3.2 changed=- failed=- version=V hook=on-start"),
        (137, "nbprovision: result worker", "background status=7 seconds=3.2 changed=- failed=- version=V hook=on-start"),
        (0, "nbprovision: result user_status=4",
         "done status=0 seconds=3.2 changed=- failed=- version=V hook=on-start user_status=4"),
        (4, "nbprovision: result fallback=playbook used=0.9.0 version=0.9.0 release=0123456789ab",
         "failed status=4 fallback=playbook used=0.9.0 seconds=3.2 changed=- failed=- version=0.9.0 hook=on-start release=0123456789ab"),
        (0, "localhost : ok=1 changed=$(id) failed=x", "done status=0 seconds=3.2 changed=- failed=- version=V hook=on-start"),
        (0, "nbprovision: result version=$(touch${IFS}x) used=`id` fallback=all * /* [a-z]",
         "done status=0 seconds=3.2 changed=- failed=- version=V hook=on-start"),
        (0, f"localhost : changed={'9' * 99} failed=08", "done status=0 seconds=3.2 changed=- failed=08 version=V hook=on-start"),
    ],
)  # fmt: skip
def test_the_last_line_and_the_exit_status(status: int, facts: str, last: str, strict: bool, tmp_path: Path) -> None:
    """Whatever the user's part says of itself, it is a number or one of a few words, or it is not shown."""
    ending = render(ScriptRequest(playbook=PLAYBOOK, tool=WHEELS, strict=strict)).split(
        "NBPROVISION-END-OF-USER-PART\nstatus=$?\n"
    )[1]
    (tmp_path / "facts").write_text(facts + "\n")
    before = (
        f"tenths() {{ echo 32; }}\nstatus={status} facts={tmp_path}/facts pipe='' copier='' as_user='' run={tmp_path}"
    )
    expected = status if strict and last.startswith("failed") else 0
    for shell in ("dash", "bash"):
        ended = subprocess.run([shell, "-c", f"{before}\n{ending}"], capture_output=True, text=True)
        assert ended.stderr == ""
        assert ended.stdout.splitlines()[-1] == f"nbprovision: {last}".replace("=V ", f"={__version__} ")
        assert ended.returncode == expected


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"playbook": "team.yml"}, "neither an absolute path"),
        ({"playbook": "s3://B/x"}, "not a URL of the form"),
        ({"playbook": "/a\nb"}, "cannot be part"),
        ({"playbook": "/\u00e4"}, "printable ASCII"),
        ({"tool": "s3://"}, "not a URL of the form"),
        ({"tool": "/a\rb"}, "cannot be part"),
        ({"index_url": "ftp://host"}, "is not a URL"),
        ({"home": "relative"}, "not an absolute path"),
        ({"home": "/a/../b"}, "not an absolute path"),
        ({"home": "/"}, "not an absolute path"),
        ({"home": "/a b"}, "not an absolute path"),
        ({"home": "/a$(id)"}, "not an absolute path"),
        ({"seconds": 291}, "between 30 and 290"),
        ({"seconds": 1}, "between 30 and 290"),
        ({"environment": {"A B": "x"}}, "cannot be set"),
        ({"environment": {"PATH": "x"}}, "cannot be set"),
        ({"options": ["\x1b[31m"]}, "cannot be part"),
    ],
)
def test_what_cannot_stand_in_a_script_is_refused(change: dict[str, object], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        render(msgspec.structs.replace(ScriptRequest(playbook=PLAYBOOK, tool=WHEELS), **change))


@pytest.mark.parametrize("playbook", ["/\u00e4/team.yml", "s3://bucket/\u00e4.yml"])
def test_a_place_that_cannot_stand_in_a_script_is_to_be_renamed(playbook: str) -> None:
    with pytest.raises(UsageError) as caught:
        render(ScriptRequest(playbook=playbook, tool=WHEELS))
    assert caught.value.cure.startswith("rename ")


def test_the_command_prints_the_script(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    playbook = tmp_path / "team.yml"
    playbook.write_text("- tasks: [{ensure_file: {path: ~/x, content: x}}]\n")
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
        "--tool",
        f"pypi:nbprovision=={__version__}",
        "--sha256",
        HASH,
    ]
    assert main(words) == 0
    wanted = ScriptRequest(
        playbook=str(playbook),
        payload={"team.yml": playbook.read_bytes()},
        tool=f"pypi:nbprovision=={__version__}",
        sha256=HASH,
        strict=True,
        seconds=100,
        environment={"A": "b"},
        options=["--extra-vars", "x=1"],
    )
    assert capsys.readouterr().out == render(wanted)


@pytest.mark.parametrize(
    "words",
    [["render"], ["render", "x.yml", "--tool", WHEELS], ["render", "/x", "--env", "A"], ["brew", "/x"], []],
)
def test_bad_options_end_with_5_and_nothing_on_standard_output(
    words: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["lifecycle", *words]) == 5
    told = capsys.readouterr()
    assert told.out == ""
    assert told.err.startswith("error: ")


def fetched(script: str, home: Path) -> subprocess.CompletedProcess[str]:
    """The first stage's ``fetch got``, with the programs of ``home/bin`` before the machine's."""
    head = user_part(script).split("main() {", maxsplit=1)[0]
    return subprocess.run(
        ["sh", "-c", f"own={home}\n{head}\nfetch {home}/got"],
        env={"HOME": str(home), "PATH": f"{home}/bin:/usr/bin:/bin"}, capture_output=True, text=True,
    )  # fmt: skip


PYPI = f"pypi:nbprovision=={__version__}"
TOOLS = (
    None, WHEELS, "~/wheels", f"/w/nbprovision-{__version__}-py3-none-any.whl", "s3://team/wheels", WHEEL_URL,
    f"nbprovision @ {WHEEL_URL}#sha256={HASH}", f"nbprovision @ {WHEEL_URL}", f"nbprovision @ {WHEEL_URL}#egg=x",
    "nbprovision @ git+https://h/x.git@main", "nbprovision@https://h/nbprovision.tar.gz",
    "nbprovision", f"nbprovision=={__version__}", "nbprovision>=0.0.1", "NBprovision", "nbprovision[x]", "other==1.0",
    PYPI, f"{PYPI} --hash=sha256:{HASH}", f"{PYPI} --hash=sha256:ab", "pypi:nbprovision", "pypi:other==1.0", "pypi:", "",
)  # fmt: skip
NAMED = re.compile(
    rf"/.*|s3://.*|pypi:nbprovision==\S+ --hash=sha256:{HASH}|nbprovision @ https://\S+\.whl#sha256={HASH}"
    r"|nbprovision @ git\+https://\S+"
)
INDEXES = (
    None,
    "https://pypi.example.com/simple",
    "https://pypi.org/simple",
    "http://u@pypi.python.org",
    "pypi.org",
    "",
)


def unnamed(script: str, index: str | None, extra: str | None) -> str | None:
    """What of a script is only a name on the public index; read from the script as its shell reads it."""
    settings = dict(re.findall(r"^    ([A-Z_]+)=(.*?) \\$", script, re.MULTILINE))
    source = shlex.split(settings["NBPROVISION_SOURCE"])[0]
    assert settings.get("PIP_INDEX_URL") == index
    named = index is not None and "pypi" not in index.replace("pypi.example.com", "") and extra is None
    downloads = re.findall(r"pip -q download .*\\\n *(.*) 2>&1", script)
    for word in [source, *(shlex.split(text)[0] for text in downloads)]:
        if word == "-r":  # the file is written in the line before, and pip asks for the hash of all that is in it
            assert f"'--only-binary nbprovision' 'nbprovision=={__version__} --hash=sha256:{HASH}' >" in script
        elif not (named or NAMED.fullmatch(word)):
            return word
    return None


def script_of(**wanted: Any) -> str | None:
    """The script, or None for what is refused, which is most of it."""
    try:
        return render(ScriptRequest(playbook=PLAYBOOK, **wanted))
    except UsageError as error:
        assert error.cause  # noqa: PT017
        assert error.cure  # noqa: PT017
        return None


@pytest.mark.parametrize("index", INDEXES)
@pytest.mark.parametrize("tool", TOOLS)
def test_no_script_names_just_a_name_on_the_public_index(tool: str | None, index: str | None) -> None:
    """Whoever registers the name there would have their code run at every start."""
    for sha256, assets, extra in itertools.product(
        (None, HASH, "ab", ""), (None, "s3://team/assets"), (None, "https://pypi.org/simple")
    ):
        environment = {"PIP_EXTRA_INDEX_URL": extra} if extra else {}
        script = script_of(tool=tool, sha256=sha256, index_url=index, assets_url=assets, environment=environment)
        assert script is None or unnamed(script, index, extra) is None, (sha256, assets, extra)


@pytest.mark.parametrize("words", [[], ["--sha256", HASH], ["--assets-url", "s3://team/assets"]])
def test_where_the_tool_comes_from_has_to_be_said(words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(UsageError, match="--tool or --index-url is required"):
        ScriptRequest(playbook=PLAYBOOK)
    assert main(["lifecycle", "render", PLAYBOOK, *words]) == 5
    told = capsys.readouterr()
    assert told.out == ""
    what, why, cure = told.err.splitlines()
    assert what == "error: --tool or --index-url is required: the source of nbprovision"
    assert "anybody could register" in why
    for form in (
        "--tool FOLDER", "--tool WHEEL", "--tool s3://", "--tool https://HOST/WHEEL --sha256 H", "--index-url https://HOST",
        "--tool pypi:nbprovision==VERSION --sha256 H",
    ):  # fmt: skip
        assert form in cure


def program(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"#!/bin/sh\n{text}\n")
    path.chmod(0o755)


FROM_BUCKET = ScriptRequest(playbook=PLAYBOOK, tool="s3://team-bucket/wheels")


def test_the_first_stage_finds_the_aws_that_comes_with_anaconda(tmp_path: Path) -> None:
    program(tmp_path / "anaconda3/bin/aws", 'while [ $# -gt 2 ]; do shift; done; echo "$1" >"$2"')
    done = fetched(render(FROM_BUCKET), tmp_path)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "got").read_text() == f"s3://team-bucket/wheels/{BOOTSTRAP_NAME}\n"


def test_the_first_stage_says_that_aws_hangs(tmp_path: Path) -> None:
    program(tmp_path / "bin/timeout", "exit 124")
    done = fetched(render(FROM_BUCKET), tmp_path)
    assert done.returncode == 1
    assert done.stdout == "aws took more than 60 s\n" * 2


@pytest.mark.parametrize("wanted", [VARIANTS["index alone"], VARIANTS["public index"]])
def test_the_first_stage_shows_what_pip_said_and_not_which_pythons_have_none(
    wanted: ScriptRequest, tmp_path: Path
) -> None:
    program(tmp_path / "bin/python3", "echo 'python3: No module named pip' >&2; exit 1")
    program(tmp_path / "anaconda3/bin/python", "echo 'ERROR: No matching distribution found' >&2; exit 1")
    done = fetched(render(wanted), tmp_path)
    assert done.returncode == 1
    assert done.stdout == "ERROR: No matching distribution found\n"
    assert done.stderr == ""


def with_a_tool(words: list[str]) -> list[str]:
    """The options, with a place that the tool comes from if none of them says it."""
    return words if {"--tool", "--index-url"}.intersection(words) else [*words, "--tool", WHEELS]


ANOTHER_MACHINE = "the script runs on another machine"
# What was written, a word of the message, of the cause, and of what to write in its place.
REFUSED = [
    (["--tool", "wheels"], "neither a requirement for nbprovision nor an absolute path", ANOTHER_MACHINE, "SageMaker/wheels"),
    (["--tool", "./wheels"], "nor an absolute path", "it exists here", "SageMaker/wheels"),
    (["--tool", "wheels/"], "nor an absolute path", "it exists here", "SageMaker/wheels"),
    (["--tool", f"nbprovision-{__version__}-py3-none-any.whl"], "neither", ANOTHER_MACHINE, "--tool WHEEL"),
    (["--tool", "otherproject==1.0"], "neither a requirement for nbprovision", ANOTHER_MACHINE, "--tool pypi:nbprovision==VERSION --sha256 H"),
    (["--tool", "nbprovision==99.0"], "leaves out nbprovision", f"asks for exactly {__version__}", f"=={__version__}"),
    (["--tool", "/w/nbprovision-99.0-py3-none-any.whl"], "is nbprovision 99.0, not", f"exactly {__version__}", "with nbprovision 99.0"),
    (["--tool", "/w/other-1.0-py3-none-any.whl"], "is a wheel of other", "installs nbprovision", "or the folder"),
    (["--tool", "/w/nbprovision.whl"], "does not have the name of a wheel", "wheel filename", "give it the name"),
    (["--tool", f"/w/nbprovision-{__version__}.tar.gz"], "is not a wheel", "a folder of wheels, or", "pip wheel"),
    (["--tool", "file:///srv/a%20b"], "is a URL", "a folder of wheels or a wheel on the volume", "write the path: /srv/a b"),
    (["--tool", "FILE:/srv/wheels"], "is a URL", "on the volume", "write the path: /srv/wheels"),
    (["--tool", "file:wheels"], "is a URL", "on the volume", "s3://BUCKET/PREFIX"),
    (["--tool", f"https://h/nbprovision-{__version__}-py3-none-any.whl"], "is a URL", "with its hash", f"--sha256 ..., or --tool 'nbprovision @ https://h/nbprovision-{__version__}-py3-none-any.whl#sha256=...'"),
    (["--tool", "https://h/wheels/"], "is a URL", "requirement", "s3://BUCKET/PREFIX"),
    (["--tool", "ftp://h/wheels"], "is a URL", "requirement", "s3://BUCKET/PREFIX"),
    (["--tool", f"nbprovision @ file:///srv/nbprovision-{__version__}-py3-none-any.whl"], "names a file by a URL", "by their paths", "write the path: /srv/nbp"),
    (["--tool", f"nbprovision @ https://h/nbprovision-{__version__}-py3-none-any.whl"], "has no hash", "changes the file", "#sha256=..."),
    (["--tool", f"nbprovision @ {WHEEL_URL}#egg=nbprovision"], "has no hash", "'egg=nbprovision', not sha256=", "#sha256=..."),
    (["--tool", f"nbprovision @ {WHEEL_URL}#sha256=ab"], "has no hash", "64 hexadecimal digits", "#sha256=..."),
    (["--tool", f"nbprovision @ https://h/nbprovision-{__version__}.tar.gz#sha256=" + HASH], "is neither a wheel nor", "run code", "--tool WHEEL"),
    (["--tool", "nbprovision @ git+https://h/x.git@main"], "needs --assets-url", "before it can build", "--assets DIR"),
    (["--tool", "nbprovision"], "is a name on the public index", "anybody could register", "--tool pypi:nbprovision==VERSION --sha256 H"),
    (["--tool", f"nbprovision=={__version__}"], "is a name on the public index", "anybody could register", "--index-url https://HOST/simple"),
    (["--tool", f"nbprovision=={__version__}", "--index-url", "HTTPS://PyPI.org:443/simple"], "public index, HTTPS://PyPI.org:443", "anybody could register", "--sha256 H"),
    (["--tool", "nbprovision", "--index-url", "https://h/s", "--env", "PIP_EXTRA_INDEX_URL=https://h/t https://pypi.org/simple"], "public index, https://pypi.org/simple", "anybody could register", "--sha256 H"),
    (["--tool", f"pypi:nbprovision=={__version__}"], "has no hash", "anybody could register", f"--tool pypi:nbprovision=={__version__} --sha256 H"),
    (["--tool", "pypi:nbprovision", "--sha256", HASH], f"is not pypi:nbprovision=={__version__}", f"exactly {__version__}", "--sha256 H"),
    (["--tool", "pypi:nbprovision==99.0", "--sha256", HASH], f"is not pypi:nbprovision=={__version__}", f"exactly {__version__}", "--sha256 H"),
    (["--tool", f"pypi:other=={__version__}", "--sha256", HASH], f"is not pypi:nbprovision=={__version__}", f"exactly {__version__}", "--sha256 H"),
    (["--sha256", HASH[1:], "--tool", f"pypi:nbprovision=={__version__}"], "is not a sha256", "has 63 characters; a sha256 has 64", f"sha256sum nbprovision-{__version__}-"),
    (["--sha256", f"sha256:{HASH}", "--tool", WHEEL_URL], "is not a sha256", "a sha256 has 64", f"sha256sum nbprovision-{__version__}-"),
    (["--sha256", "g" * 64, "--tool", WHEELS], "is not a sha256", "a letter from a to f", f"sha256sum nbprovision-{__version__}-"),
    (["--sha256", HASH, "--tool", WHEELS], f"has no meaning for --tool {WHEELS}", "by https:// or from the public index", "leave it out"),
    (["--sha256", HASH, "--tool", "s3://team/wheels"], "has no meaning for --tool s3", "by https:// or from the public index", "leave it out"),
    (["--sha256", HASH, "--index-url", "https://h/simple"], "has no meaning for --tool nbprovision==", "public index", f"pypi:nbprovision=={__version__}"),
    (["--sha256", ""], "--sha256 is empty", "variable", "leave the option out"),
    (["--tool", "nbprovision @ https://h/nbprovision-99.0-py3-none-any.whl#sha256=ab"], "is nbprovision 99.0", "exactly", "render the script with"),
    (["--tool", "s3://Bad_Bucket/wheels"], "is not a URL of the form s3://BUCKET/PREFIX", "lowercase", "aws s3 ls"),
    (["--tool", "s3://b..b/wheels"], "is not a URL of the form", "lowercase", "aws s3 ls"),
    (["--tool", f"s3://bucket/w/nbprovision-{__version__}-py3-none-any.whl"], "is a single wheel", "under a prefix", "--tool s3://bucket/w"),
    (["--tool", ""], "--tool is empty", "variable of the shell", "leave the option out"),
    (["--tool", "~other/wheels"], "is not an absolute path", "notebook user's own ~/", "write it out"),
    (["--assets-url", "http://h/a"], "is not a source", "s3:// and https:// only", "https://HOST/FOLDER"),
    (["--assets-url", "ftp://h/a"], "is not a source", "s3:// and https:// only", "https://HOST/FOLDER"),
    (["--assets-url", "file:///srv/a"], "is not a source", "written as paths", "write the path: /srv/a"),
    (["--assets-url", "wheels"], "is not an absolute path", "it exists here", "write it out"),
    (["--assets-url", "https://h/a?x=1"], "is not the URL of a folder", "a query", "https://HOST/FOLDER"),
    (["--assets-url", "https://"], "is not the URL of a folder", "appends a file name", "https://HOST/FOLDER"),
    (["--assets-url", "s3://Bad_Bucket/"], "is not a URL of the form", "lowercase", "aws s3 ls"),
    (["--assets-url", ""], "--assets-url is empty", "variable", "leave the option out"),
    (["--assets", "s3://bucket/a"], "is not a folder here", "is written into it", "--assets-url"),
    (["--assets", "a-file"], "is not a folder here", "is written into it", "--assets-url"),
    (["--assets", ""], "--assets is empty", "variable", "leave the option out"),
    (["--user-playbook", "mine.yml"], "is not an absolute path", ANOTHER_MACHINE, "/home/ec2-user/..."),
    (["--user-playbook", "~other/mine.yml"], "is not an absolute path", "own ~/", "write it out"),
    (["--user-playbook", "s3://bucket/mine.yml"], "is a URL", "takes a path of the machine", "write it out"),
    (["--user-playbook", "/a/mine/"], "is a folder", "ends with a slash", "name the file"),
    (["--user-playbook", f"/home/../{PLAYBOOK}"], "is also the playbook of the team", "run twice", "leave the option out"),
    (["--user-playbook", ""], "--user-playbook is empty", "variable", "leave the option out"),
    (["--home", "relative"], "is not an absolute path", ANOTHER_MACHINE, "/home/ec2-user/..."),
    (["--home", ""], "--home is empty", "variable", "leave the option out"),
    (["--home", "/a b"], "plain letters", "spaces and quotes", "/home/ec2-user/SageMaker/.nbprovision"),
    (["--index-url", "pypi.example.com"], "is not a URL", "https:// or http://", "https://HOST/simple"),
    (["--index-url", ""], "--index-url is empty", "variable", "leave the option out"),
    (["--deadline", "1"], "is not between", "after 300 seconds", "write a number"),
    (["--env", "A"], "takes NAME=VALUE", "the = is missing", "--env A=VALUE"),
    (["--env", "HOME=/x"], "cannot be set", "sets it itself", "leave it out"),
]  # fmt: skip


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where the script is rendered."""
    (tmp_path / "wheels").mkdir()
    (tmp_path / "a-file").touch()
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.parametrize(("words", "what", "why", "cure"), REFUSED, ids=[" ".join(words) for words, *_ in REFUSED])
@pytest.mark.usefixtures("here")
def test_what_leads_nowhere_on_the_machine_is_refused_in_three_parts(
    words: list[str], what: str, why: str, cure: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["lifecycle", "render", PLAYBOOK, *with_a_tool(words)]) == 5
    told = capsys.readouterr()
    assert told.out == ""
    first, second, third = told.err.splitlines()
    assert first.startswith(f"error: {words[0]}")
    assert what in first
    assert why in second
    assert cure in third


@pytest.mark.parametrize(
    ("playbook", "what", "cure"),
    [
        ("team.yml", "neither an absolute path", "add --inline"),
        ("", "PLAYBOOK is empty", "write a value"),
        ("s3://Bad_Bucket/team.yml", "is not a URL of the form s3://BUCKET/KEY", "aws s3 ls"),
        ("s3://bucket", "is not a URL of the form s3://BUCKET/KEY", "s3://bucket/team.yml"),
        ("s3://bucket/books/", "is not a URL of the form s3://BUCKET/KEY", "s3://bucket/books/team.yml"),
        ("/books/", "is a folder", "name the file"),
        ("https://h/team.yml", "neither an absolute path", "add --inline"),
    ],
)
@pytest.mark.usefixtures("here")
def test_a_playbook_that_leads_nowhere_is_refused(
    playbook: str, what: str, cure: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["lifecycle", "render", playbook, "--tool", WHEELS]) == 5
    first, why, third = capsys.readouterr().err.splitlines()
    assert what in first
    assert why.strip()
    assert cure in third


@pytest.mark.parametrize(
    ("words", "line"),
    [
        (["--tool", "~/SageMaker/wheels"], "NBPROVISION_SOURCE=/home/ec2-user/SageMaker/wheels"),
        (["--tool", "~/w", "--platform", "studio"], "NBPROVISION_SOURCE=/home/sagemaker-user/w"),
        (["--tool", "/w/wheels/"], "cat /w/wheels/nbprovision-"),
        (["--tool", f"/w/nbprovision-{__version__}-py3-none-any.whl"], "cat /w/nbprovision-"),
        (["--tool", "nbprovision", "--index-url", "https://h/simple"], "NBPROVISION_SOURCE=nbprovision"),
        (
            ["--tool", "nbprovision>=0.0.1", "--index-url", "https://h/simple"],
            "NBPROVISION_SOURCE='nbprovision>=0.0.1'",
        ),
        (["--index-url", "https://h/simple"], f"NBPROVISION_SOURCE=nbprovision=={__version__}"),
        (["--index-url", "https://h/simple"], 'or its wheel from" https://h/simple'),
        (
            ["--tool", "nbprovision@git+https://h/x.git@main", "--assets-url", "s3://team/assets"],
            "NBPROVISION_SOURCE='nbprovision @ git+https://h/x.git@main'",
        ),
        (["--tool", f"nbprovision @ {WHEEL_URL}#sha256={HASH}"], f"'nbprovision @ {WHEEL_URL}#sha256={HASH}' 2>&1)"),
        (["--tool", WHEEL_URL, "--sha256", HASH.upper()], f"'nbprovision @ {WHEEL_URL}#sha256={HASH}' 2>&1)"),
        (
            ["--tool", f"pypi:nbprovision=={__version__}", "--sha256", HASH.upper()],
            f"NBPROVISION_SOURCE='pypi:nbprovision=={__version__} --hash=sha256:{HASH}'",
        ),
        (
            [
                "--tool",
                f"pypi:nbprovision=={__version__} --hash=sha256:{HASH}",
                "--index-url",
                "https://pypi.org/simple",
            ],
            f"'--only-binary nbprovision' 'nbprovision=={__version__} --hash=sha256:{HASH}' >",
        ),
        (["--tool", "s3://bucket"], "cp --only-show-errors s3://bucket/$1"),
        (["--assets-url", "~/SageMaker/assets/"], "cat /home/ec2-user/SageMaker/assets/nbprovision-"),
        (["--assets-url", "https://h"], "https://h/nbprovision-"),
        (["--user-playbook", "~/mine.yml"], "NBPROVISION_USER_PLAYBOOK=/home/ec2-user/mine.yml"),
        (["--user-playbook"], "NBPROVISION_USER_PLAYBOOK=/home/ec2-user/SageMaker/nbprovision.yml"),
        (["--user-playbook", "--platform", "studio"], "NBPROVISION_USER_PLAYBOOK=/home/sagemaker-user/nbprovision.yml"),
        (["--home", "~/SageMaker/own/"], "NBPROVISION_HOME=/home/ec2-user/SageMaker/own "),
    ],
)
def test_places_of_the_machine_need_not_exist_here(
    words: list[str], line: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["lifecycle", "render", PLAYBOOK, *with_a_tool(words)]) == 0
    told = capsys.readouterr()
    assert told.err == ""
    assert line in told.out
    checked = subprocess.run(["sh", "-n"], input=told.out, text=True, capture_output=True)
    assert (checked.returncode, checked.stderr) == (0, "")
