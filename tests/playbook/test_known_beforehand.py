"""What can be known wrong without the machine: status 4 before any task, and the same said by lint."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import rattler
from hypothesis import given
from hypothesis import strategies as st

from nbprovision.__main__ import main
from nbprovision.catalogue import Catalogue
from nbprovision.conda.specs import channel_fault, exclude, fault, parse
from nbprovision.lint.check import check
from nbprovision.machine.machine import Machine
from nbprovision.pip.requirements import anchored

# Verdicts of conda 26's own parser (conda.models.match_spec.MatchSpec), as far as they are those of the engine too.
CONDA_TAKES = [
    "numpy", "NumPy", "python3.8", "ruby-gem.x", "__cuda>=11", "_libgcc_mutex=0.1=conda_forge", "tk=8.6.11=h27826a3_1",
    "numpy 1.0 py27_0", "numpy=1.0", "numpy =1.0", "numpy= 1.0", "numpy~=1.2", "numpy ~=1.2", "numpy=1.2.*", "numpy 1.2*",
    "numpy>=1.2 , <2", "numpy 1.2,>1.3", "numpy>=1,<2|>3", "numpy=1.2|1.3", "numpy!=1.2", "python==3.8.*", "python 3",
    "numpy[version='>=1']", "numpy[build=py_0]", "numpy[version=1.2,build_number='>=1']", "numpy # comment",
    "pytorch::pytorch=*=*cuda*", "pytorch=*=*cuda*", "blas=*=openblas", "foo * py*", "foo =* py*", "foo 1.0.0.* *_cuda",
    "conda-forge/label/dev::numpy", "https://conda.anaconda.org/conda-forge::numpy", "defaults::numpy=1.2",
    "python=3.8.*=*_cpython", "openssl>=1.1.1w,<1.1.2a", "r-base>=4,<5.0a0", "foo=1!2.0", "foo=1.2+cu117", "foo==1.2-3",
    "foo=1.2_3", "foo>1.0dev", "foo=v1.2", "foo=1.2rc1", "jpeg 9b", "foo >=1.2,<2.0 build", "tzdata=2022f", "numpy<2.*",
    "foo=latest", "numpy (>=1,<2)", "pytorch=1.7.1=py3.8_cuda11.0.221_cudnn8.0.5_0", "x264=1!152.20180806=h14c3975_0",
    "python=3.7*", "conda-forge/linux-64::cupy", "pkgs/main/linux-64::tensorflow-gpu>=2", "jpeg=9d=h7f8727e_0",
    "tensorflow==2.4.1=gpu_py39h8236f22_0", "dgl-cuda11.1", "icc_rt=2019.0.0=h0cc432a_1", "nodejs>=12,!=13.*,<15",
]  # fmt: skip
CONDA_REFUSES = [
    "numpy>1.0 <2", "numpy >=1.2 <2", "numpy>=1.2<2", "numpy<>2", "numpy==", "numpy>=", "numpy==1.2,", "numpy,scipy",
    "numpy^1.2", "numpy@1.2", "numpy; python_version<'3'", "python>=3.8,,<4", "numpy!1.2", "numpy=1.0=", "a=1=b=c",
    "-c conda-forge", "conda-forge::", "numpy[bad=1]", "numpy[version='>=1'", "./x", "git+https://x", "foo==1..2", "foo=.1",
    "foo=${VER}", "foo=$VER", "foo={{ x }}", "foo='1.2'", '"foo"', "é", "foo=é", "foo\tbar", "foo|bar", "foo/bar", "foo>1>2",
]  # fmt: skip
# What conda takes for something that nobody means, and what the engine does not take.
NOBODY_MEANS = [
    "numpy scipy", "numpy scipy=1.0", "pillow h5py", "name with spaces", "numpy[extra]>=1", "numpy:1.2", "conda-forge:numpy",
    "numpy=>1.0", "numpy===1.2", "numpy=", "numpy*", "*", "conda forge::numpy", "htps://host/x::numpy",
    "https://conda.anaconda.org/conda-forge/linux-64/numpy-1.21.2-py39h0_0.conda", "/tmp/numpy-1.21.2-py39h0_0.tar.bz2",
]  # fmt: skip


@pytest.mark.parametrize("text", CONDA_TAKES)
def test_what_conda_takes_is_taken(text: str) -> None:
    assert fault(text) is None
    assert parse(text) is not None


@pytest.mark.parametrize("text", [*CONDA_REFUSES, *NOBODY_MEANS])
def test_what_conda_refuses_is_refused_with_a_reason(text: str) -> None:
    wrong = fault(text)
    assert wrong is not None
    assert wrong.cause
    assert wrong.cure


def test_the_url_of_a_package_becomes_a_spec() -> None:
    wrong = fault("https://conda.anaconda.org/conda-forge/linux-64/x-y-1.0-h1_0.conda#abcd")
    assert wrong is not None
    assert "x-y=1.0=h1_0" in wrong.cure


@pytest.mark.parametrize(
    ("one", "other", "verdict"),
    [
        ("x=1.2", "x=1.3", True), ("x=1.2", "x>=1.2.5", False), ("x==1.2", "x=1.2", False), ("x>=2", "x<2", True),
        ("x>=2", "x<=2", False), ("x", "x=1", False), ("x=1.2=py_0", "x=1.3", True), ("x=1", "y=2", False), ("x 1.2", "x 1.2.0", False),
        ("x=1.2*", "x=1.3", True), ("x~=1.2", "x=2", True), ("x~=1.2", "x=1.5", False), ("x=1|=2", "x=3", False), ("x!=1.2.*", "x=1.2", True), ("x=1.*", "x<1", True),
    ],
)  # fmt: skip
def test_specs_that_contradict_each_other(one: str, other: str, verdict: bool) -> None:
    """What is no range of plain numbers is left to the solver."""
    first, second = parse(one), parse(other)
    assert first is not None
    assert second is not None
    assert exclude(first, second) is verdict
    assert exclude(second, first) is verdict


_plain = st.from_regex(
    r"\A([a-z]{1,3}(/[a-z]{1,2})?::)?[a-zA-Z0-9_][a-z0-9_.-]{0,4}( ?(=|==|>=|<=|!=|~=|>|<)? ?[0-9]{1,2}(\.[0-9]{1,2}){0,2}"
    r"(_[0-9])?(rc[0-9]|[a-z])?(\.post1)?(\.\*)?(, ?(<|>=|!=)[0-9](\.[0-9])?(\.\*)?)?(=[a-z0-9_.]{1,3})?)?\Z"
)


@given(_plain)
def test_what_is_taken_without_the_library_is_what_the_library_takes(text: str) -> None:
    """The short way must never take what the engine would refuse, or read another name out of it."""
    if fault(text) is None:
        spec, mine = rattler.MatchSpec(text), parse(text)
        assert mine is not None
        assert spec.name is not None
        assert spec.name.normalized == mine.name


@pytest.mark.parametrize(
    "text",
    [
        "conda-forge", "conda_forge", "pkgs/main", "conda-forge/label/dev", "nvidia/label/cuda-11.8.0", "nodefaults",
        "https://host/x", "https://u:p@host:8443/t/abc-d/x", "s3://bucket/x", "file:///x/y", "/x y", "~/x", "./x", "..",
        "conda-forge[linux-64]",
    ],
)  # fmt: skip
def test_channels(text: str) -> None:
    assert channel_fault(text) is None


@pytest.mark.parametrize(
    "text",
    [
        "", " ", "a b", "a,b", "htps://host/x", "http:/host/x", "https:host", "https:///x", "https://host:port/x", "file:x",
        "file://x/y", "C:\\x", "~somebody/x", "@EXPLICIT", "a\nb", "-c", "https://host/a b", "https://[::1/x",
    ],
)  # fmt: skip
def test_what_is_no_channel(text: str) -> None:
    wrong = channel_fault(text)
    assert wrong is not None
    assert wrong.cause
    assert wrong.cure


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("requests", "requests"), ("requests[socks]>=2", "requests[socks]>=2"), ("a @ https://h/a.whl", "a @ https://h/a.whl"),
        ("./a.whl", "/f/a.whl"), ("../a.whl", "/a.whl"), (".", "/f"), ("./a[x]", "/f/a[x]"), ("dist/a.whl", "/f/dist/a.whl"),
        ("-e .", "-e /f"), ("-e ./a[x]", "-e /f/a[x]"), ("--editable=a", "--editable=/f/a"), ("-e /a", "-e /a"),
        ("-e git+https://h/a@v1#egg=a", "-e git+https://h/a@v1#egg=a"), ("git+ssh://git@h/a", "git+ssh://git@h/a"),
        ("a @ ./a.whl", "a @ /f/a.whl"), ("a[x] @ file:a.whl", "a[x] @ /f/a.whl"), ("file:a.whl", "/f/a.whl"),
        ("file:///a.whl", "file:///a.whl"), ("~/a.whl", "~/a.whl"), ("a.tar.gz", "/f/a.tar.gz"),
    ],
)  # fmt: skip
def test_a_path_in_a_requirement_begins_at_the_playbook(text: str, expected: str) -> None:
    assert anchored(text, Path("/f")) == expected


ENV = "ensure_conda_env: {name: x, packages: [python], "
KERNEL = "-m, ipykernel_launcher, -f, '{connection_file}']"
# A task each, and a word of what is said.
WRONG = {
    "ensure_conda_env: {name: x, packages: [python, 'numpy==']}": "no version follows",
    "ensure_conda_env: {name: x, packages: ['numpy>1 <2']}": "comma",
    "ensure_conda_env: {name: x, packages: ['requests[socks]']}": "does not support extras",
    "ensure_conda_env: {name: x, packages: [python], engine: mamba}": "fix: write conda",
    "ensure_conda_pkg: {env: /x, packages: [six], engine: mamba}": "fix: write conda",
    "ensure_conda_pkg: {env: /x, packages: ['numpy==']}": "no version follows",
    "ensure_conda_env: {name: x, packages: [python=3.12, python=3.11]}": "no version satisfies both",
    "ensure_conda_pkg: {env: /x, packages: ['six>=2', 'six<1.5']}": "no version satisfies both",
    "ensure_conda_pkg: {env: /x, packages: [six], channels: ['htps://x']}": "scheme",
    f"{ENV}channels: ['htps://x/y']}}": "scheme",
    f"{ENV}channels: ['http:/x/y']}}": "two slashes",
    f"{ENV}channels: ['conda forge']}}": "blank",
    f"{ENV}channels: ['']}}": "empty",
    f"{ENV}file: 'https://host/environment.yml'}}": "URL",
    "ensure_conda_env: {prefix: '', packages: [python]}": "empty",
    "ensure_conda_env: {prefix: '~somebody/x', packages: [python]}": "another user",
    "ensure_conda_env: {prefix: 'https://host/x', packages: [python]}": "URL",
    "ensure_conda_channel: {path: '', pypi: [six]}": "empty",
    "ensure_conda_channel: {path: /x, pypi: ['six==']}": "is not a requirement",
    "ensure_conda_channel: {path: /x, interpreter: three}": "version of Python",
    "ensure_file: {path: 'https://host/x', content: x}": "URL",
    "ensure_file: {path: /x, src: 'file:///y'}": "write /y",
    "ensure_pip_pkg: {python: '', packages: [six]}": "empty",
    "ensure_pip_pkg: {python: 'https://host', packages: [six]}": "URL",
    "ensure_pip_pkg: {system: true, requirements: 'https://host/r.txt'}": "URL",
    "ensure_condarc: {channels: ['htps://x']}": "scheme",
    "ensure_condarc: {channels: ['conda forge']}": "blank",
    "ensure_condarc: {default_channels: ['https:///x']}": "host",
    "ensure_condarc: {channel_alias: 'foo://host'}": "scheme",
    "ensure_condarc: {custom_channels: {x: 'htp:/host'}}": "scheme",
    "ensure_condarc: {custom_multichannels: {x: ['a b']}}": "blank",
    "ensure_condarc: {ssl_verify: ca.pem}": "absolute path",
    f"ensure_kernel: {{name: k, argv: [bin/python, {KERNEL}}}": "relative path",
    "ensure_command: {argv: [~/bin/make], creates: /x}": "shell replaces",
    "ensure_command: {argv: [make], unless: [~/bin/made]}": "shell replaces",
    "ensure_pip_pkg: {system: true, packages: ['https:///six.whl']}": "no host",
    "ensure_pip_pkg: {system: true, packages: ['six @ git+https:///x@v1']}": "no host",
    "ensure_pip_index: {url: 'https://host/simple', cert: 'https://host/ca.pem'}": "URL",
}


@pytest.mark.parametrize("line", WRONG)
def test_nothing_is_begun(
    line: str,
    env: dict[str, str],
    machine: Machine,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Status 4 with the place in the playbook before the task that stands first; lint says the same of the same place."""
    for name, value in env.items():
        monkeypatch.setenv(name, value)
    playbook, marker = tmp_path / "p.yml", tmp_path / "marker"
    playbook.write_text(f"- tasks:\n    - ensure_file: {{path: {marker}, content: x}}\n    - {line}\n")
    status = main(["run", str(playbook)])
    said = "".join(capsys.readouterr())
    assert status == 4, said
    assert not marker.exists()
    assert WRONG[line] in said
    place = re.search(rf"{re.escape(str(playbook))}:3:\d+", said)
    assert place is not None, said
    findings = check(playbook, Machine(env, root=machine.root), Catalogue(), {})
    errors = [one for one in findings if one.severity == "error"]
    assert [str(one.position) for one in errors] == [place[0]]
    assert errors[0].message in said


def test_what_is_wrong_in_a_file_of_conda_may_be_taken_out_of_it(
    env: dict[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in env.items():
        monkeypatch.setenv(name, value)
    playbook = tmp_path / "p.yml"
    playbook.write_text("- tasks:\n    - ensure_condarc: {channels: ['htps://x', 'a b'], state: absent}\n")
    assert main(["run", str(playbook)]) == 0


def test_places_of_an_index_begin_at_the_playbook(
    env: dict[str, str], home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever the working folder of a run is; a page of wheels stays a page."""
    for name, value in env.items():
        monkeypatch.setenv(name, value)
    monkeypatch.chdir(home)
    (tmp_path / "ca.pem").touch()
    playbook = tmp_path / "p.yml"
    playbook.write_text(
        "- tasks:\n    - ensure_pip_index: {url: 'https://h/simple', cert: ca.pem, find_links: [wheels, 'https://h/l']}\n"
    )
    assert main(["run", str(playbook)]) == 0
    written = (home / ".config/pip/pip.conf").read_text()
    assert f"cert = {tmp_path}/ca.pem" in written
    assert f"{tmp_path}/wheels" in written
    assert "https://h/l" in written


def linted(path: Path, machine: Machine) -> list[tuple[str, str, str]]:
    findings = check(path, Machine(machine.env, root=machine.root), Catalogue(), {})
    return [(one.rule, str(one.position), one.message) for one in findings]


MAKE = "    - ensure_conda_env: {name: x, channels: [conda-forge], packages: [python]}\n"


@pytest.mark.parametrize(
    ("files", "task", "expected"),
    [
        ({"r.txt": "six\nnumpy==\n"}, "ensure_pip_pkg: {env: x, requirements: r.txt}", [("invalid-playbook", "r.txt:2:6")]),
        ({"r.txt": "six\n-r more.txt\n"}, "ensure_pip_pkg: {env: x, requirements: r.txt}", [("missing-file", "r.txt:2:1")]),
        ({"r.txt": "\n-c c.txt\n", "c.txt": "a b\n"}, "ensure_pip_pkg: {env: x, requirements: r.txt}", [("invalid-playbook", "c.txt:1:3")]),
        ({}, "ensure_pip_pkg: {env: x, packages: [six, ./a.whl]}", [("missing-file", "p.yml:3:48")]),
        ({"r.txt": "six --hash=${NO_SUCH_VARIABLE}\n"}, "ensure_pip_pkg: {env: x, requirements: r.txt}", [("invalid-playbook", "r.txt:1:1")]),
        ({"e.yml": "dependencies:\n  - python\n  - numpy==\n"}, "ensure_conda_env: {name: y, file: e.yml}", [("invalid-playbook", "e.yml:3:5")]),
        ({"e.yml": "dependencies: [pip, {pip: [-r no.txt]}]\n"}, "ensure_conda_env: {name: y, file: e.yml}", [("missing-file", "e.yml:1:28")]),
        ({}, "ensure_conda_env: {name: y, file: e.yml}", [("missing-file", "p.yml:3:41")]),
        ({}, "ensure_conda_env: {name: y, channels: [./channel], packages: [six]}", [("missing-file", "p.yml:3:46")]),
        ({"v.yml": "v: [1\n"}, "ensure_conda_env: {name: y, packages: [six]}\n  vars_files: v.yml", [("invalid-playbook", "v.yml:2:1")]),
    ],
)  # fmt: skip
def test_lint_reads_the_files_that_a_playbook_names(
    machine: Machine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, files: Any, task: str, expected: Any
) -> None:
    """Once each, by the name that is theirs from where the playbook was named."""
    for name, text in files.items():
        (tmp_path / name).write_text(text)
    playbook = tmp_path / "p.yml"
    playbook.write_text(f"- tasks:\n{MAKE}    - {task}\n")
    monkeypatch.chdir(tmp_path)
    for path in (Path("p.yml"), playbook):
        found = linted(path, machine)
        before = "" if path.name == str(path) else f"{tmp_path}/"
        assert [rule for rule, _, _ in found] == [rule for rule, _ in expected], found
        for (_, place, _), (_, wanted) in zip(found, expected, strict=True):
            assert place.startswith(before + wanted)


@pytest.mark.parametrize(
    "url", ["https://u:hunter2@host/c.txt", "HTTP://host/c.txt", "s3://bucket/c.txt", "git+ssh://host/c"]
)
@pytest.mark.parametrize("option", ["-c ", "-r ", "--constraint=", "--requirement "])
def test_a_url_in_a_requirements_file_is_refused_as_in_the_parameter(
    machine: Machine, tmp_path: Path, option: str, url: str
) -> None:
    """Whichever file names it, the environment file's pip section too; with one sentence, and at its own place."""
    (tmp_path / "r.txt").write_text("six\n-r more.txt\n")
    (tmp_path / "more.txt").write_text(f"# more\n\n  {option}{url}\n")
    (tmp_path / "e.yml").write_text(f"dependencies:\n  - pip:\n    - {option}{url}\n")
    playbook = tmp_path / "p.yml"
    playbook.write_text(
        f"- tasks:\n{MAKE}    - ensure_pip_pkg: {{env: x, requirements: r.txt}}\n    - ensure_conda_env: {{name: y, file: e.yml}}\n"
        f"    - ensure_pip_pkg: {{env: x, packages: [six], constraints: '{url}'}}\n"
    )
    findings = [one for one in check(playbook, machine, Catalogue(), {}) if one.rule == "invalid-playbook"]
    assert [(Path(one.position.file).name, *one.position[1:]) for one in findings] == [("p.yml", 5, 62)]
    in_parameter = findings[0]
    playbook.write_text("".join(playbook.read_text().splitlines(keepends=True)[:-1]))
    findings = [one for one in check(playbook, machine, Catalogue(), {}) if one.rule == "invalid-playbook"]
    places = [(Path(one.position.file).name, *one.position[1:]) for one in findings]
    assert sorted(places) == [("e.yml", 3, 7), ("more.txt", 3, 3)]
    for one in findings:
        assert (one.why, one.cure) == (in_parameter.why, in_parameter.cure)
        assert one.message.endswith(in_parameter.message.partition("'constraints'")[2])
        assert "hunter2" not in one.message


def test_a_file_that_a_task_makes_is_not_missing(machine: Machine, tmp_path: Path) -> None:
    playbook = tmp_path / "p.yml"
    playbook.write_text(
        "- tasks:\n    - ensure_conda_channel: {path: ./channel}\n    - ensure_file: {path: ./r.txt, content: six}\n"
        "    - ensure_conda_env: {name: x, channels: [./channel], packages: [python]}\n"
        "    - ensure_pip_pkg: {env: x, requirements: r.txt}\n"
    )
    assert linted(playbook, machine) == []


def test_a_relative_playbook_is_told_of_once(machine: Machine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "p.yml").write_text("- tasks:\n    - ensure_pip_index: {url: 'https://u:hunter2hunter2@h/simple'}\n")
    monkeypatch.chdir(tmp_path)
    assert [(rule, place) for rule, place, _ in linted(Path("p.yml"), machine)] == [("plain-secret", "p.yml:2:31")]


def test_ordinary_specs_load_no_library() -> None:
    """It would take longer than all the rest of a run after a restart."""
    specs = ["numpy", "python=3.12", "numpy>=2,<3", "conda-forge::gdal", "tk=8.6.11=h27826a3_1", "x ~=1.2"]
    code = f"import sys\nfrom nbprovision.conda.specs import fault\n[fault(spec) for spec in {specs}]\n"
    code += "sys.exit('rattler' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False, cwd=Path(__file__).parents[2]).returncode == 0
