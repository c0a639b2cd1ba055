"""conda's environment.yml as it is found in the wild: taken as conda takes it, or refused with what it is."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from nbprovision.catalogue import Catalogue
from nbprovision.conda import environment_file
from nbprovision.conda.ensure_conda_env import EnsureCondaEnv
from nbprovision.conda.environment_file import EnvironmentFile
from nbprovision.lint.check import check
from nbprovision.machine.machine import Machine
from nbprovision.model.errors import InvalidPlaybook, ProvisionError
from nbprovision.pip.requirements_files import Options, RequirementSet


@pytest.fixture
def read(tmp_path: Path) -> Any:
    """Writes an environment file, and reads it."""
    path = tmp_path / "environment.yml"

    def written(text: str | bytes) -> EnvironmentFile:
        path.write_bytes(text if isinstance(text, bytes) else text.encode())
        return environment_file.read(path)

    return written


def asked(file: EnvironmentFile) -> RequirementSet:
    return environment_file.pip_section(file, {})


def lines(file: EnvironmentFile) -> list[str]:
    return [wanted.line for wanted in asked(file).wanted]


def test_indexes_amid_the_requirements(read: Any) -> None:
    """As files for a cloud's training service have them, a blank at the end included."""
    file = read(
        "name: project_environment\nchannels:\n  - defaults\ndependencies:\n  - python=3.8.13\n  - pip=22.3.1\n  - pip:\n"
        "      - einops\n      - torch>=2.2.0\n      - git+https://host/olive@fix/it#egg=olive-ai[gpu]\n"
        "      - --extra-index-url https://nightly.example/simple/ \n      - ort-nightly-gpu==1.18.0.dev20240307004\n"
        "      - --extra-index-url=https://genai.example/simple/\n      - --index-url https://first.example/simple\n"
    )
    assert file.packages == ("python=3.8.13", "pip=22.3.1")
    assert not file.lacks_pip
    assert asked(file).options == Options(
        index_url="https://first.example/simple",
        extra_urls=("https://nightly.example/simple/", "https://genai.example/simple/"),
    )
    assert lines(file)[-1] == "ort-nightly-gpu==1.18.0.dev20240307004"


def test_pages_and_folders_of_wheels(read: Any, tmp_path: Path) -> None:
    file = read(
        "name: gnn\nchannels:\n  - conda-forge\ndependencies:\n  - python=3.10\n  - pip\n  - pip:\n"
        "    - --find-links https://host/whl/cu117/torch-2.0.1%2Bcu117-cp310-cp310-linux_x86_64.whl\n"
        "    - -f https://host/whl/torch-2.0.1%2Bcu117.html\n    - --find-links ./wheels\n    - --no-index\n"
        "    - --trusted-host host\n    - tensorboard\n    - torch==2.0.1\n"
    )
    options = asked(file).options
    assert options.find_links[1:] == ("https://host/whl/torch-2.0.1%2Bcu117.html", str(tmp_path / "wheels"))
    assert options.no_index
    assert options.trusted_hosts == ("host",)
    assert [wanted.name for wanted in asked(file).wanted] == ["tensorboard", "torch"]


@pytest.mark.parametrize(
    "line",
    [
        "-r requirements.txt",
        "-r file:requirements.txt",
        "-r FILE",
        "--requirement=./requirements.txt",
        "-rrequirements.txt",
    ],
)
def test_a_requirements_file_beside_it(read: Any, tmp_path: Path, line: str) -> None:
    (tmp_path / "requirements.txt").write_text("tqdm\n")
    line = line.replace("FILE", (tmp_path / "requirements.txt").as_uri())
    file = read(
        f"dependencies:\n  - pandas\n  - pip:\n    - mxnet-cu101mkl==1.6.* # a comment\n    - {line}\n  - python=3.7\n"
    )
    assert lines(file) == ["mxnet-cu101mkl==1.6.*", "tqdm"]
    assert file.lacks_pip
    assert list(environment_file.named(file)) == [tmp_path / "requirements.txt"]


def test_editable_sources(read: Any, tmp_path: Path) -> None:
    file = read(
        "dependencies:\n  - pip\n  - pip:\n    - -e git+https://host/rpc-scope@v1#egg=scope\n    - -e .\n"
        "    - git+https://host/IOTool#subdirectory=py\n    - -e ./lib[test]\n"
        "    - --editable=git+https://host/OCHRE@branch#egg=ochre\n"
    )
    scope, here, tool, library, ochre = asked(file).wanted
    assert ochre.editable
    assert (scope.name, scope.editable, scope.line) == ("scope", True, "-e git+https://host/rpc-scope@v1#egg=scope")
    assert here.url == tmp_path.as_uri()
    assert tool.url == "git+https://host/IOTool#subdirectory=py"
    assert library.line == f"-e {tmp_path}/lib[test]"


def test_a_key_of_a_merge_may_stand_twice(read: Any) -> None:
    """One that stands deeper than the mapping that is made from it, too."""
    file = read(
        "x: {y: {z: &deep {<<: &base {A: '1', B: '2'}, A: '2'}}}\n"
        "dependencies: [python]\nvariables:\n  <<: *deep\n  A: '3'\n"
    )
    assert dict(file.variables) == {"A": "3", "B": "2"}


@pytest.mark.parametrize(
    ("pip", "line", "column", "said"),
    [
        ("- six\n    - numpy==\n", 5, 12, "not a requirement"),
        ("- --editable=git+https://host/OCHRE@branch\n", 4, 7, "has no name"),
        ("- --trust-me\n", 4, 7, "unknown option '--trust-me'"),
        ("- -r https://host/r.txt\n", 4, 7, "'-r' cannot be 'https://host/r.txt'"),
        ("- -r nope.txt\n", 4, 7, "cannot read"),
        ("- -r nope.txt ; python_version < '3'\n", 4, 7, "cannot have a condition: 'python_version < '3''"),
        ("- six ${NOT_SET}\n", 4, 7, "NOT_SET is not set"),
    ],
)
def test_a_line_of_the_pip_section_is_refused_where_it_stands(
    read: Any, tmp_path: Path, pip: str, line: int, column: int, said: str
) -> None:
    file = read(f"dependencies:\n  - pip\n  - pip:\n    {pip}")
    with pytest.raises(InvalidPlaybook, match=said) as caught:
        asked(file)
    assert caught.value.position == (str(tmp_path / "environment.yml"), line, column)


# What others have made of it: a text, and where and what is said. The name of the file stands in front of some.
REFUSED = {
    "conda list --export": ("# platform: linux-64\n_libgcc_mutex=0.1=main\nca-certificates=2021.1.19=h06a4308_0\n", 1, "list of packages"),
    "pip freeze": ("six==1.16.0\nrequests==2.31.0\n", 1, "ensure_pip_pkg"),
    "sel": ("dependencies:\n  - python\n  - sel(linux): six\n", 3, "selector"),
    "sel of a list": ("dependencies:\n  - sel(unix): [six]\n", 2, "selector"),
    "a typo in a key": ("name: x\ndependancies:\n  - python\n", 2, "did you mean 'dependencies'"),
    "a colon for =": ("dependencies:\n  - python: 3.10\n", 2, "write python=3.10"),
    "a version alone": ("dependencies:\n  - python\n  - 3.8\n", 3, "name=VERSION"),
    "two words": ("dependencies:\n  - scikit learn\n", 2, "neither blanks nor commas"),
    "a package's URL": ("dependencies:\n  - https://h/c/linux-64/six-1.16-py_0.conda\n", 2, "six=1.16=py_0"),
    "a URL of git": ("dependencies:\n  - git+https://host/x\n", 2, "pip"),
    "a marker of pip": ("dependencies:\n  - six; python_version < '3'\n", 2, "pip"),
    "no version": ("name: numpy\ndependencies:\n  - numpy==\n", 3, "no version"),
    "a channel of two words": ("channels:\n  - conda-forge\n  - conda forge\n", 3, "not a channel"),
    "a channel by a wrong scheme": ("channels: ['htps://host/x']\n", 1, "scheme"),
}  # fmt: skip


@pytest.mark.parametrize("what", REFUSED)
def test_what_conda_would_not_take_is_said(read: Any, tmp_path: Path, what: str) -> None:
    text, line, said = REFUSED[what]
    with pytest.raises(InvalidPlaybook) as caught:
        read(text)
    assert said in str(caught.value)
    assert caught.value.cure
    assert caught.value.position is not None
    assert caught.value.position[:2] == (str(tmp_path / "environment.yml"), line)


def test_what_windows_writes(read: Any) -> None:
    """PowerShell's ``conda env export > environment.yml`` is UTF-16; a byte order mark and CRLF are common too."""
    text = "name: x\r\ndependencies:\r\n  - python=3.10\r\n  - pip:\r\n    - six\r\n"
    for encoding in ("utf-16", "utf-8-sig"):
        file = read(text.encode(encoding))
        assert (file.name, file.packages, lines(file)) == ("x", ("python=3.10",), ["six"])


def test_places_in_it_begin_at_its_folder(read: Any, tmp_path: Path) -> None:
    """Whatever the working folder of a run is."""
    file = read("channels: [./local, ../more, /there, conda-forge, nodefaults]\nprefix: ./env\n")
    assert file.channels == (f"{tmp_path}/local", str(tmp_path.parent / "more"), "/there", "conda-forge")
    assert file.prefix == f"{tmp_path}/env"


def test_variables_in_its_channels_are_replaced(read: Any, machine: Machine, tmp_path: Path) -> None:
    """As conda does; one that is not set is an error."""
    read("channels: ['https://host/$TEAM/x']\ndependencies: [python]\n")
    task = EnsureCondaEnv(name="x", file=str(tmp_path / "environment.yml"))
    machine.env["TEAM"] = "blue"
    assert task._channels(machine, task._file(), ()) == ("https://host/blue/x",)
    del machine.env["TEAM"]
    with pytest.raises(ProvisionError, match="variable in the channel") as caught:
        task.requires(machine)
    assert caught.value.exit_status == 4


@pytest.mark.parametrize("name", ["my env", "a:b", "x#y"])
def test_a_name_that_no_environment_can_have(read: Any, machine: Machine, tmp_path: Path, name: str) -> None:
    """Said where it stands; a task that gives a name of its own does not mind it."""
    read(f"channels: [x]\nname: '{name}'\ndependencies: [python]\n")
    path = str(tmp_path / "environment.yml")
    with pytest.raises(InvalidPlaybook, match="names the environment") as caught:
        EnsureCondaEnv(file=path).requires(machine)
    assert caught.value.position is not None
    assert caught.value.position[:2] == (path, 2)
    EnsureCondaEnv(file=path, name="other").requires(machine)


def test_selectors_in_comments_are_told(read: Any, machine: Machine, tmp_path: Path) -> None:
    """To conda they are comments, so that the package is wanted; one that holds here changes nothing."""
    file = read(
        "dependencies:\n  - pywin32  # [win]\n  - 'appnope=0.1' # [not linux and py3k]\n  - six # [linux]\n"
        "  - idna  # [1], see below\n  - attrs # [sic]\n"
    )
    assert file.packages == ("pywin32", "appnope=0.1", "six", "idna", "attrs")
    assert [line for line, _ in file.selectors] == [2, 3]
    assert "'# [win]' is a comment to conda: 'pywin32' is requested" in file.notes[0]
    playbook = tmp_path / "p.yml"
    playbook.write_text("- tasks:\n    - ensure_conda_env: {name: x, file: environment.yml}\n")
    found = check(playbook, machine, Catalogue(), {})
    assert [one.rule for one in found] == ["ignored-selector"] * 2


def test_a_selector_is_named_where_the_package_cannot_be_had(machine: Machine, tmp_path: Path) -> None:
    path = tmp_path / "environment.yml"
    path.write_text("channels: [./none]\ndependencies:\n  - pywin32  # [win]\n")
    task = EnsureCondaEnv(name="x", file=str(path))
    with pytest.raises(ProvisionError) as caught:
        task.read(machine)
    assert "'# [win]' is a comment to conda" in caught.value.cause
