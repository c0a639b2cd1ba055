"""Which Pythons a folder of wheels serves, which wheels it lacks, and what of it is damaged."""

from __future__ import annotations

from pathlib import Path

import pytest
from packaging.version import Version

from nbprovision import __version__
from nbprovision.cli import main
from nbprovision.lifecycle.wheels import MINORS, check_folder, coverage_warning
from nbprovision.model.errors import UsageError
from tests.support.wheels import make_wheel

PLAYBOOK = "/home/ec2-user/SageMaker/team.yml"
V = Version(__version__)
LINUX = "manylinux_2_17_x86_64.manylinux2014_x86_64"


def tagged(wheel: Path, *tags: str) -> None:
    """The same wheel under the names of other tags."""
    for tag in tags:
        wheel.with_name(wheel.name.replace("py3-none-any", tag)).write_bytes(wheel.read_bytes())
    wheel.unlink()


def tool(folder: Path, *requires: str, version: str = __version__) -> Path:
    return make_wheel(folder, "nbprovision", version, requires=requires, requires_python=">=3.10")


def compiled(folder: Path, name: str, *minors: int, machine: str = LINUX, version: str = "1.0") -> None:
    tagged(make_wheel(folder, name, version), *(f"cp3{minor}-cp3{minor}-{machine}" for minor in minors))


def test_pure_wheels_serve_every_python(tmp_path: Path) -> None:
    tool(tmp_path, "pure>=1")
    make_wheel(tmp_path, "pure", "1.2")
    found = check_folder(tmp_path, V)
    assert found.complete("x86_64") == found.complete("aarch64") == MINORS
    assert coverage_warning(found) == ""


def test_compiled_wheels_serve_their_own(tmp_path: Path) -> None:
    tool(tmp_path, "fast", "deep-one")
    make_wheel(tmp_path, "deep-one", "1", requires=["other>=2"])
    compiled(tmp_path, "fast", 11, 12)
    tagged(make_wheel(tmp_path, "other", "2.0"), f"cp310-abi3-{LINUX}")
    found = check_folder(tmp_path, V)
    assert found.complete("x86_64") == (11, 12)
    assert found.complete("aarch64") == ()
    assert [one.requirement for one in found.missing["x86_64", 13]] == ["fast"]
    assert [one.requirement for one in found.missing["aarch64", 11]] == ["fast", "other>=2"]
    assert coverage_warning(found) == ""


def test_markers_are_those_of_each_python(tmp_path: Path) -> None:
    tool(
        tmp_path, "old; python_version < '3.12'", "never; sys_platform == 'win32'", "arm; platform_machine == 'aarch64'"
    )
    found = look_missing(tmp_path)
    assert found["x86_64", 11] == ["old"]
    assert found["x86_64", 12] == []
    assert found["aarch64", 12] == ["arm"]


def look_missing(folder: Path) -> dict[tuple[str, int], list[str]]:
    return {key: [one.requirement for one in missing] for key, missing in check_folder(folder, V).missing.items()}


def test_extras_bring_what_they_need(tmp_path: Path) -> None:
    tool(tmp_path, "plain", "plain[more]")
    make_wheel(tmp_path, "plain", "1", requires=['extra-part; extra == "more"', 'unasked; extra == "other"'])
    make_wheel(tmp_path, "extra-part", "1", requires=["nbprovision"])
    assert check_folder(tmp_path, V).complete("x86_64") == MINORS
    next(tmp_path.glob("extra_part*")).unlink()
    with pytest.raises(UsageError, match="extra-part"):
        check_folder(tmp_path, V)


def test_one_python_only_is_a_warning_with_the_command_that_adds_another(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    tool(tmp_path, "fast>=1")
    compiled(tmp_path, "fast", 11)
    assert main(["lifecycle", "render", PLAYBOOK, "--tool", str(tmp_path)]) == 0
    told = capsys.readouterr().err
    assert "the wheels only serve Python 3.11 on x86_64, and the next image may have another Python" in told
    assert "for 3.12 these are missing: fast>=1" in told
    assert "pip download --only-binary=:all: --python-version 3.12 " in told
    assert f"-d {tmp_path} {tmp_path}/nbprovision-{__version__}-py3-none-any.whl" in told, (
        "not what the public index has"
    )


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda folder: tool(folder, "fast>=1"), "fast>=1 (for nbprovision): no wheel of that name"),
        (lambda folder: (tool(folder, "fast>=2"), compiled(folder, "fast", 11)), "fast>=2 (for nbprovision): only 1.0"),
        (
            lambda folder: (tool(folder, "fast"), compiled(folder, "fast", 11, machine="win_amd64")),
            "none for Python 3.10 on x86_64 among fast-1.0-cp311-cp311-win_amd64.whl",
        ),
        (lambda folder: make_wheel(folder, "other", "1"), "this folder has no wheel of nbprovision"),
        (lambda folder: folder.joinpath("readme.txt").write_text(""), "it has no wheel at all"),
        (lambda folder: folder.joinpath("nbprovision.whl").write_text(""), "nbprovision.whl does not have the name"),
    ],
)
def test_what_no_python_can_install_is_refused(
    make: object, words: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert callable(make)
    make(tmp_path)
    assert main(["lifecycle", "render", PLAYBOOK, "--tool", str(tmp_path)]) == 5
    told = capsys.readouterr()
    assert told.out == ""
    assert words in told.err


@pytest.mark.parametrize("kept", [0, 100, -30])
def test_a_wheel_that_is_cut_is_named(kept: int, tmp_path: Path) -> None:
    tool(tmp_path)
    wheel = make_wheel(tmp_path, "fast", "1.0")
    wheel.write_bytes(wheel.read_bytes()[:kept])
    with pytest.raises(UsageError, match=r"the wheel .*/fast-1\.0-py3-none-any\.whl is damaged"):
        check_folder(tmp_path, V)


def test_the_version_that_the_script_asks_for_counts(tmp_path: Path) -> None:
    tool(tmp_path)
    tool(tmp_path, "gone", version="0.10.0")
    assert check_folder(tmp_path, V).complete("x86_64") == MINORS
    with pytest.raises(UsageError, match="gone"):
        check_folder(tmp_path, Version("0.10.0"))


@pytest.mark.parametrize(
    ("file", "asked"),
    [("0.2.0.dev1", "0.2.0-dev1"), ("0.2.0rc1", "0.2.0-rc.1"), ("0.2", "0.2.0"), ("0.2.0.post1", "0.2.0-1")],
)
def test_versions_are_compared_as_versions(file: str, asked: str, tmp_path: Path) -> None:
    tool(tmp_path, version=file)
    tool(tmp_path, version="0.3.0")
    assert check_folder(tmp_path, Version(asked)).version == Version(file)


@pytest.mark.parametrize("option", ["--tool", "--assets"])
def test_a_folder_without_that_version_is_refused_with_what_it_has(
    option: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for version in ("99.10.0", "99.9.0", f"{__version__}.dev3", f"{__version__}rc1"):
        tool(tmp_path, version=version)
    words = ["lifecycle", "render", PLAYBOOK, "--tool", "s3://team/wheels", option, str(tmp_path)]
    assert main(words) == 5
    first, why, cure = capsys.readouterr().err.splitlines()
    assert first == f"error: {option} {tmp_path}: this folder has no wheel of nbprovision {__version__}"
    assert f"of nbprovision the folder has {__version__}.dev3, {__version__}rc1, 99.9.0, 99.10.0" in why
    assert f"pip wheel --no-deps --wheel-dir {tmp_path} CHECKOUT" in cure
    assert "nbprovision==" not in cure
    tool(tmp_path)
    assert main(words) == 0


def test_a_single_wheel_that_exists_here_is_looked_at(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    wheel = tool(tmp_path, "needed-from-an-index")
    assert main(["lifecycle", "render", PLAYBOOK, "--tool", str(wheel)]) == 0
    wheel.write_bytes(wheel.read_bytes()[:-30])
    assert main(["lifecycle", "render", PLAYBOOK, "--tool", str(wheel)]) == 5
    assert f"the wheel {wheel} is damaged" in capsys.readouterr().err
    other = tmp_path / "nbprovision"
    other.write_text("")
    assert main(["lifecycle", "render", PLAYBOOK, "--tool", str(other)]) == 5
    assert "is neither a folder nor a wheel" in capsys.readouterr().err


def test_a_folder_of_the_machine_alone_is_not_looked_at(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["lifecycle", "render", PLAYBOOK, "--tool", "/home/ec2-user/SageMaker/wheels"]) == 0
    assert capsys.readouterr().err == ""
