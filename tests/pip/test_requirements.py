"""A requirement that is understood without the library is understood as the library understands it."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from packaging.requirements import Requirement

from nbprovision.model.errors import Blocked, InvalidPlaybook
from nbprovision.pip import requirements, requirements_files
from nbprovision.pip.targets import check_places

_NAMES = st.from_regex(r"[A-Za-z0-9]([A-Za-z0-9._-]{0,8}[A-Za-z0-9])?", fullmatch=True)
_VERSIONS = st.from_regex(r"(==[0-9]{1,3}(\.[0-9]{1,3}){0,4})?", fullmatch=True)


@given(_NAMES, _VERSIONS)
def test_simple_requirements(name: str, version: str) -> None:
    wanted, library = requirements.parse(name + version), Requirement(name + version)
    assert wanted.line == str(library)
    assert wanted.specifier == str(library.specifier)
    assert (wanted.extras, wanted.marker, wanted.url) == ((), "", None)


@pytest.mark.parametrize(
    ("url", "name", "version"),
    [
        ("git+https://h.example/x.git@v1#egg=My.Lab", "my-lab", None),
        ("git+https://h.example/x-1.0.tar.gz", None, "1.0"),
        ("https://h.example/My_Lab-1.0-py3-none-any.whl", "my-lab", "1.0"),
        ("https://h.example/my-lab-1.0.tar.gz", "my-lab", "1.0"),
        ("https://h.example/my-lab-1.0.zip#sha256=00", "my-lab", "1.0"),
        ("https://h.example/my-lab.zip", None, None),
        ("https://h.example/my-lab.whl", None, None),
    ],
)
def test_what_a_url_tells_of_a_distribution(url: str, name: str | None, version: str | None) -> None:
    assert requirements.source_name(url) == name
    assert requirements.source_version(url) == version


@pytest.mark.parametrize(
    ("one", "other", "never"),
    [
        ("a @ https://h/a-1.0.zip", "a @ https://u:p@h/a-1.0.zip#sha256=00", False),
        ("a @ https://h/a-1.0.zip", "a @ https://h/a-2.0.zip", True),
        ("a @ https://h/a-1.0.zip", "a<2", False),
        ("a>=2", "a @ https://h/a-1.0.zip", True),
        ("a>=2", "a @ https://h/a", False),  # nobody can tell
        ("a>=2", "a<2", True),
    ],
)
def test_what_can_never_be_together(one: str, other: str, never: bool) -> None:
    assert requirements.incompatible(requirements.parse(one), requirements.parse(other)) is never


def test_what_is_neither_a_url_nor_a_path_is_told() -> None:
    with pytest.raises(InvalidPlaybook, match="'elsewhere' is neither a URL nor a path"):
        requirements.parse("six @ elsewhere")


def test_options_of_requirements_files_reach_whoever_installs(tmp_path: Path) -> None:
    """A constraints file may name others, whose lines constrain as well."""
    (tmp_path / "r.txt").write_text(
        "--no-binary numpy,scipy --only-binary=:all:\n--use-feature fast-deps\n-c c.txt\n-f wheels\n--pre\nsix\n"
    )
    (tmp_path / "c.txt").write_text("-c more.txt\n-r more.txt\n")
    (tmp_path / "more.txt").write_text("six<2\n")
    asked = requirements_files.read((), [tmp_path / "r.txt"], (), {})
    assert [one.line for one in asked.wanted] == ["six"]
    assert [one.line for one in asked.constraints] == ["six<2", "six<2"]
    assert asked.constraint_files == (tmp_path / "c.txt",)
    assert asked.options.no_binary == ()  # as pip has it: a later `:all:` of the other takes it back
    assert asked.options.only_binary == (":all:",)
    assert asked.options.find_links == (str(tmp_path / "wheels"),)
    assert asked.options.all_releases == (":all:",)
    assert [path.name for path in asked.files] == ["r.txt", "c.txt", "more.txt"]


def test_a_constraint_needs_a_name(tmp_path: Path) -> None:
    (tmp_path / "c.txt").write_text("six<2\nhttps://h.example/x\n")
    with pytest.raises(InvalidPlaybook, match="a constraint needs a name") as caught:
        requirements_files.read((), (), [tmp_path / "c.txt"], {})
    assert caught.value.position is not None
    assert caught.value.position.line == 2


def test_files_that_include_without_end_are_refused(tmp_path: Path) -> None:
    for number in range(60):
        (tmp_path / f"{number}.txt").write_text(f"-r {number + 1}.txt\n")
    with pytest.raises(InvalidPlaybook, match=r"51\.txt is included more than 50 files deep") as caught:
        requirements_files.read((), [tmp_path / "0.txt"], (), {})
    assert caught.value.position is not None
    assert caught.value.position.file == str(tmp_path / "50.txt")


@pytest.mark.parametrize(
    ("line", "cure"),
    [
        ("pytz @ file:///home/conda/feedstock_root/build_artifacts/pytz_1693930252784/work", "write `pytz` with a version"),
        ("Click @ file:///tmp/build/80754af9/click_1698129812380/dist/click-8.1.7-py3-none-any.whl", "write `click` with a version"),
        ("six @ file:///nowhere/six", "a relative path"),
        ("-e /nowhere/six", "a relative path"),
    ],
)  # fmt: skip
def test_a_folder_in_which_conda_built_is_told_for_what_it_is(line: str, cure: str) -> None:
    """`pip freeze` prints it of a package that conda installed."""
    with pytest.raises(Blocked) as caught:
        check_places([requirements.parse(line)], requirements.marker_environment("3.12"))
    assert cure in caught.value.cure
