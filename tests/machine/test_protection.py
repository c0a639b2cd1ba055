"""Where the files that a package lists lead to is told as `os.path.realpath` tells it, folder by folder."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nbprovision.machine.distributions import installed
from nbprovision.machine.protection import files_outside, paths_outside

PARTS = st.sampled_from(["lib", "bin", "x", "out", "up", "self", "gone", "..", ".", "", "round"])
NAMES = st.lists(st.builds("/".join, st.lists(PARTS, min_size=1, max_size=5)), max_size=12)


@settings(max_examples=300, deadline=None)
@given(names=NAMES, base=st.sampled_from(["", "lib", "out", "lib/x"]), absolute=st.booleans())
def test_it_is_what_realpath_says_of_each_name(names: list[str], base: str, absolute: bool) -> None:
    with tempfile.TemporaryDirectory() as top:
        prefix = Path(top, "env")
        (prefix / "lib/x").mkdir(parents=True)
        (prefix / "bin").mkdir()
        Path(top, "elsewhere/x").mkdir(parents=True)
        for name, target in (
            ("out", "../elsewhere"), ("lib/up", ".."), ("lib/out", str(Path(top, "elsewhere"))), ("bin/self", "../lib"),
            ("gone", "nowhere"), ("round", "round"),
        ):  # fmt: skip
            (prefix / name).symlink_to(target)
        if absolute:
            names = [os.path.join(prefix, name) if number % 2 else name for number, name in enumerate(names)]
        expected = []
        for name in names:
            folder, last = os.path.split(os.path.normpath(os.path.join(prefix, base, name)))
            real = os.path.realpath(folder)
            if not f"{real}/".startswith(f"{os.path.realpath(prefix)}/"):
                expected.append(Path(real, last))
        assert list(paths_outside(prefix, prefix / base, names)) == expected


def _environment(prefix: Path, record: str) -> Path:
    """An environment with one distribution; its site-packages."""
    site = prefix / "lib/python3.11/site-packages"
    (site / "demo-1.0.dist-info").mkdir(parents=True)
    (site / "demo-1.0.dist-info/RECORD").write_text(record)
    return site


def _outside(prefix: Path) -> list[Path]:
    distributions = [each for same_name in installed(prefix).values() for each in same_name]
    return [place for _, place in files_outside(prefix, distributions)]


def test_each_environment_is_looked_at_though_two_have_the_same_record(tmp_path: Path) -> None:
    record = "demo/__init__.py,,\ndemo/data/inner/x.txt,,\n../../../bin/demo,,\n"
    (tmp_path / "elsewhere/inner").mkdir(parents=True)
    for name, link in (("sound", None), ("inner", "demo/data/inner"), ("middle", "demo/data"), ("top", "demo")):
        site = _environment(tmp_path / name, record)
        (site / (link or "demo/data")).parent.mkdir(parents=True, exist_ok=True)
        if link is not None:
            (site / link).symlink_to(tmp_path / "elsewhere")
    (tmp_path / "sound/bin").mkdir()
    (tmp_path / "top/bin").symlink_to(tmp_path / "elsewhere")
    assert _outside(tmp_path / "sound") == []
    assert _outside(tmp_path / "inner") == [tmp_path / "elsewhere/x.txt"]
    assert _outside(tmp_path / "middle") == [tmp_path / "elsewhere/inner/x.txt"]
    assert _outside(tmp_path / "top") == [
        tmp_path / "elsewhere/__init__.py", tmp_path / "elsewhere/data/inner/x.txt", tmp_path / "elsewhere/demo"
    ]  # fmt: skip
    assert _outside(tmp_path / "sound") == []


@pytest.mark.parametrize(
    "name",
    [
        "/etc/x",
        "../../../../x",
        "../../../../env-more/x",
        ".../x",
        "...",
        "a/.../x",
        "..x/y",
        "a/../../../../../x",
        "//etc/x",
    ],
)
def test_folder_with_an_unusual_name_is_judged_as_realpath_judges_it(tmp_path: Path, name: str) -> None:
    site = _environment(tmp_path / "env", f"{name},,\n")
    (tmp_path / "env-more").mkdir()
    for folder in ("...", "a/...", "..x"):
        (site / folder).parent.mkdir(exist_ok=True)
        (site / folder).symlink_to(tmp_path / "env-more")
    place = os.path.realpath(os.path.dirname(os.path.normpath(site / name)))
    inside = place.startswith(f"{tmp_path}/env/")
    assert _outside(tmp_path / "env") == ([] if inside else [Path(place, os.path.basename(name))])
