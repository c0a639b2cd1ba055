"""Where the files that a package lists lead to is told as `os.path.realpath` tells it, folder by folder."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

from hypothesis import given, settings
from hypothesis import strategies as st

from nbprovision.machine.protection import paths_outside

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
