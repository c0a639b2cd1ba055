"""INI files are edited key by key: every other line stays, a section is never doubled, and real programs agree."""

from __future__ import annotations

import configparser
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nbprovision.files.ini_text import Wanted, edited, settings
from nbprovision.model.errors import Position, TaskFailed

Values = dict[str, dict[str, Wanted]]
FOLDER = Path("/home/user")
AWS = "# mine\n[default]\nregion = us-east-1\n\n[profile x]\nrole_arn=arn:x\ns3 =\n  max_queue_size = 1\n  # c\n  multipart = 2\nregion=eu\n"
OPENSSL = "# license\n\nHOME\t\t\t= .\n.include /etc/x.cnf\n\n[ req ]\nbits = 2048 # many\n0.name = A \\\n  B\n\n# about ca\n[ ca ]\nx = 'a # b' # c\n"
UNIT = "[Service]\nEnvironment=A=1\nEnvironment=B=2\nExecStart=x\n[Install]\nWantedBy=a"
SETUP = "[metadata]\nname = x\n[options]\nrequires =\n    a\n    b\nzip_safe=\nurl: h\n"


def edit(name: str, text: str | None, values: Mapping[str, Mapping[str, Wanted]], *remove: Sequence[str]) -> str | None:
    """The edited text; a second edit changes nothing."""
    after = edited(FOLDER / name, text, values, remove)
    assert edited(FOLDER / name, after, values, remove) == after
    return after


# name: the file's name, the text, the wanted values, the text then
SET: dict[str, tuple[str, str | None, Values, str | None]] = {
    "no file": ("f", None, {"a": {"b": "c"}, "": {"t": "1"}}, "t = 1\n\n[a]\nb = c\n"),
    "nothing wanted": ("f", None, {}, None),
    "the same": ("f", "[a]\nb   =c\n", {"a": {"b": "c"}}, "[a]\nb   =c\n"),
    "a key, its spacing": ("f", "[a]\nb   =c\n", {"a": {"b": "d"}}, "[a]\nb   =d\n"),
    "a new key, the spacing of its neighbours": ("f", "[a]\nb=c\n# end\n\n[z]\ny = x\n", {"a": {"d": "e"}}, "[a]\nb=c\nd=e\n# end\n\n[z]\ny = x\n"),
    "a new key, the indentation of its neighbours": ("f", "[a]\n\tb = c\n[z]\n", {"a": {"d": "e"}}, "[a]\n\tb = c\n\td = e\n[z]\n"),
    "an aligned value": ("f", "[a]\nb\t\t= c\n", {"a": {"d": "e"}}, "[a]\nb\t\t= c\nd = e\n"),
    "colons": ("f", "[a]\nb: c\n", {"a": {"b": "x=y", "d": "e"}}, "[a]\nb: x=y\nd: e\n"),
    "an empty section": ("f", "[a]\n# c\n[b]\n", {"a": {"d": "e"}}, "[a]\nd = e\n# c\n[b]\n"),
    "no line end": ("f", "[a]\nb = c", {"a": {"b": "d"}, "z": {"y": "x"}}, "[a]\nb = d\n\n[z]\ny = x"),
    "Windows line ends": ("f", "[a]\r\nk = v\r\n[b]\r\n", {"b": {"c": "d"}, "e": {"f": "g"}}, "[a]\r\nk = v\r\n[b]\r\nc = d\r\n\r\n[e]\r\nf = g\r\n"),
    "a byte order mark, bytes": ("f", "\ufeff[a]\nb = \udce9\n", {"a": {"c": "d"}}, "\ufeff[a]\nb = \udce9\nc = d\n"),
    "a section that begins twice": ("f", "[a]\nk = v\n[b]\nz=1\n[a]\nl = w\n", {"a": {"k": "x", "n": "m"}}, "[a]\nk = x\n[b]\nz=1\n[a]\nl = w\nn = m\n"),
    "a key that is repeated": ("f", "[a]\nk = v\n[b]\nz=1\n[a]\nk = w\n", {"a": {"k": "x"}}, "[a]\n[b]\nz=1\n[a]\nk = x\n"),
    "a comment sign in a value of Python's": ("f", "[a]\nk = v # c\n", {"a": {"k": "w ; d"}}, "[a]\nk = w ; d\n"),
    "above the first section": ("f", "# licence\n\n[s]\na=b\n", {"": {"k": "w"}}, "# licence\n\nk=w\n\n[s]\na=b\n"),
    "above the first section, beside a key": ("f", "j = v\n\n[s]\n", {"": {"k": "w"}}, "j = v\nk = w\n\n[s]\n"),
    "a value becomes empty": ("f", "[s]\na = 1\n", {"s": {"a": ""}}, "[s]\na =\n"),
    "AWS: values within a value": (
        "config", AWS, {"profile x": {"s3": {"max_queue_size": "5", "new": "7"}, "region": "z"}, "profile y": {"s3": {"a": "1"}}, "default": {"s3": {"b": "2"}}},
        "# mine\n[default]\nregion = us-east-1\ns3 =\n  b = 2\n\n[profile x]\nrole_arn=arn:x\ns3 =\n  max_queue_size = 5\n  # c\n  multipart = 2\n  new = 7\nregion=z\n\n[profile y]\ns3=\n  a = 1\n",
    ),
    "AWS: a value becomes one with keys": ("config", "[d]\ns3 = x\n", {"d": {"s3": {"a": "1"}}}, "[d]\ns3 =\n  a = 1\n"),
    "setup.cfg: a value of several lines": (
        "setup.cfg", SETUP, {"options": {"requires": "a\nc", "zip_safe": "no", "url": "q"}, "metadata": {"classifiers": "A\nB"}},
        "[metadata]\nname = x\nclassifiers =\n    A\n    B\n[options]\nrequires =\n    a\n    c\nzip_safe=no\nurl: q\n",
    ),
    "setup.cfg: several lines become one": ("setup.cfg", "[options]\nrequires =\n    a\n    b", {"options": {"requires": "z"}}, "[options]\nrequires = z"),
    "setup.cfg: one line becomes several": ("setup.cfg", "[options]\na = 1\nrequires = x", {"options": {"requires": "z\ny"}}, "[options]\na = 1\nrequires =\n    z\n    y"),
    "openssl: comments behind values, brackets with blanks, directives": (
        "openssl.cnf", OPENSSL, {"": {"openssl_conf": "init"}, "req": {"bits": "4096", "0.name": "Z", "new": "1"}, "ca": {"x": "y"}, "fips": {"activate": "1"}},
        "# license\n\nHOME\t\t\t= .\n.include /etc/x.cnf\nopenssl_conf = init\n\n[ req ]\nbits = 4096 # many\n0.name = Z\nnew = 1\n\n# about ca\n[ ca ]\nx = y # c\n\n[ fips ]\nactivate = 1\n",
    ),
    "openssl: a comment is no part of the value": ("openssl.cnf", OPENSSL, {"req": {"bits": "2048", "0.name": "A B"}, "ca": {"x": "'a # b'"}}, OPENSSL),
    "openssl: keys in two cases": ("openssl.cnf", "[a]\ndns = 1\n", {"a": {"DNS": "2"}}, "[a]\ndns = 1\nDNS = 2\n"),
    "MySQL: a key without a value": ("my.cnf", "[mysqld]\nskip-x\n!includedir /etc/y\n", {"mysqld": {"skip-x": "1", "p": "2"}}, "[mysqld]\nskip-x = 1\n!includedir /etc/y\np = 2\n"),
    "systemd: a key that is repeated": (
        "a.service", UNIT, {"Service": {"Environment": ["A=1", "C=3", "D=4"], "ExecStart": "y"}},
        "[Service]\nEnvironment=A=1\nEnvironment=C=3\nEnvironment=D=4\nExecStart=y\n[Install]\nWantedBy=a",
    ),
    "systemd: one of several": ("a.service", UNIT, {"Service": {"Environment": "B=2"}}, "[Service]\nEnvironment=B=2\nExecStart=x\n[Install]\nWantedBy=a"),
    "systemd: indented lines are keys": ("systemd/user/x.conf", "[S]\nA=1\n  B=2\n", {"S": {"B": "3"}}, "[S]\nA=1\n  B=3\n"),
}  # fmt: skip


@pytest.mark.parametrize("name", SET)
def test_values_are_set(name: str) -> None:
    file, text, values, after = SET[name]
    assert edit(file, text, values) == after


REMOVED: dict[str, tuple[str, str | None, list[list[str]], str | None]] = {
    "no file": ("f", None, [["a"]], None),
    "missing": ("f", "[a]\nb = c\n", [["x"], ["a", "y"], ["a", "b", "z"]], "[a]\nb = c\n"),
    "a key, the comment above it stays": ("f", "[a]\n# c\nb = 1\nd = 2\n", [["a", "b"]], "[a]\n# c\nd = 2\n"),
    "a key in both parts of a section": ("f", "[a]\nb = 1\n[c]\n[a]\nb = 2\n", [["a", "b"]], "[a]\n[c]\n[a]\n"),
    "a value of several lines": ("setup.cfg", SETUP, [["options", "requires"]], "[metadata]\nname = x\n[options]\nzip_safe=\nurl: h\n"),
    "a section, the comment about the next stays": ("openssl.cnf", OPENSSL, [["req"]], "# license\n\nHOME\t\t\t= .\n.include /etc/x.cnf\n\n# about ca\n[ ca ]\nx = 'a # b' # c\n"),
    "the last section": ("f", AWS, [["profile x"]], "# mine\n[default]\nregion = us-east-1\n"),
    "a key within a value": ("f", AWS, [["profile x", "s3", "max_queue_size"]], AWS.replace("  max_queue_size = 1\n", "")),
    "all keys within a value": ("f", "[a]\ns3 =\n  b = 1\nc = 2\n", [["a", "s3", "b"]], "[a]\nc = 2\n"),
    "above the first section": ("f", "a = 1\nb = 2\n[c]\na = 3\n", [["", "a"]], "b = 2\n[c]\na = 3\n"),
}  # fmt: skip


@pytest.mark.parametrize("name", REMOVED)
def test_what_is_removed(name: str) -> None:
    file, text, remove, after = REMOVED[name]
    assert edit(file, text, {}, *remove) == after


@pytest.mark.parametrize(
    ("text", "place", "cause"),
    [
        ("[a\nk=v\n", (1, 1), "closing bracket"),
        ("[a] k=v\n", (1, 1), "more behind"),
        ("[]\n", (1, 1), "closing bracket"),
        ("[a]\n- b\n", (2, 1), "has no = or :"),
        ("[a]\n  {\n", (2, 3), "has no = or :"),
        ("[a]\n= x\n", (2, 2), "has no key"),
        ("[a]\nb\0 = x\n", (2, 2), "NUL"),
    ],
)
def test_what_is_no_ini_file_is_refused_with_its_place(text: str, place: tuple[int, int], cause: str) -> None:
    with pytest.raises(TaskFailed, match="not a valid INI file") as caught:
        edit("f", text, {"a": {"k": "v"}})
    assert caught.value.position == Position(str(FOLDER / "f"), *place)
    assert cause in caught.value.cause


def test_a_key_in_another_case_is_not_doubled() -> None:
    with pytest.raises(TaskFailed, match="'index-url' is written 'Index-URL'") as caught:
        edit("pip.conf", "[global]\n\n  Index-URL = x\n", {"global": {"index-url": "y"}})
    assert caught.value.position == Position(str(FOLDER / "pip.conf"), 3, 3)


def test_a_key_in_another_case_is_not_overlooked() -> None:
    with pytest.raises(TaskFailed, match="'timeout' is written 'Timeout'"):
        edit("pip.conf", "[global]\nTimeout = 5\n", {}, ["global", "timeout"])
    assert edit("a.cnf", "[global]\nTimeout = 5\n", {}, ["global", "timeout"]) == "[global]\nTimeout = 5\n"


def test_a_comment_within_a_replaced_value_is_not_lost() -> None:
    with pytest.raises(TaskFailed, match="is not replaced") as caught:
        edit("setup.cfg", "[a]\nb =\n  x\n  # why\n  y\n", {"a": {"b": "z"}})
    assert caught.value.position == Position(str(FOLDER / "setup.cfg"), 4, 3)


# ---------------------------------------------------------------------------------------------------- real programs


def test_aws_reads_what_was_written(tmp_path: Path) -> None:
    """AWS's own samples append a profile at each start, after which its command refuses the file."""
    path = tmp_path / "config"
    values: Values = {
        "profile x": {"region": "eu-central-1", "s3": {"max_concurrent_requests": "20"}},
        "profile new": {"output": "json"},
    }
    path.write_text(edit("config", AWS, values) or "")
    env = {**os.environ, "AWS_CONFIG_FILE": str(path), "AWS_SHARED_CREDENTIALS_FILE": str(tmp_path / "none")}
    program = Path(sys.executable).with_name("aws")
    for profile, key, value in [
        ("x", "region", "eu-central-1"),
        ("x", "s3.max_concurrent_requests", "20"),
        ("x", "s3.multipart", "2"),
        ("default", "region", "us-east-1"),
        ("new", "output", "json"),
    ]:
        done = subprocess.run(
            [program, "configure", "get", key, "--profile", profile], env=env, capture_output=True, text=True
        )
        assert (done.stdout.strip(), done.returncode) == (value, 0), done.stderr


@pytest.mark.skipif(shutil.which("openssl") is None, reason="there is no openssl")
def test_openssl_uses_the_provider_that_was_written(tmp_path: Path) -> None:
    path = tmp_path / "openssl.cnf"
    (tmp_path / "more.cnf").write_text("[base_sect]\nactivate = 1\n")
    path.write_text(
        f"# mine\nHOME = .\nopenssl_conf = init # as usual\n.include {tmp_path}/more.cnf\n\n[ init ]\nproviders = provs\n\n[ provs ]\ndefault = default_sect\n[ default_sect ]\nactivate = 1\n"
    )
    env = {**os.environ, "OPENSSL_CONF": str(path)}

    def providers() -> str:
        done = subprocess.run(["openssl", "list", "-providers"], env=env, capture_output=True, text=True, check=True)
        return done.stdout

    assert "base" not in providers()
    path.write_text(
        edit("openssl.cnf", path.read_text(), {"provs": {"base": "base_sect"}, "default_sect": {"activate": "1"}}) or ""
    )
    assert "base" in providers()
    assert path.read_text().count("[ provs ]") == 1


def test_pip_reads_what_was_written(tmp_path: Path) -> None:
    path = tmp_path / "pip.conf"
    path.write_text(
        edit(
            "pip.conf",
            "[global]\ntimeout = 5\n",
            {"global": {"timeout": "60", "extra-index-url": "https://a/\nhttps://b/"}},
        )
        or ""
    )
    env = {**os.environ, "PIP_CONFIG_FILE": str(path)}
    done = subprocess.run(
        [sys.executable, "-m", "pip", "config", "list"], env=env, capture_output=True, text=True, check=True
    )
    assert "global.timeout='60'" in done.stdout
    assert "global.extra-index-url='\\nhttps://a/\\nhttps://b/'" in done.stdout


# ------------------------------------------------------------------------------------------------------- properties

LINES = st.sampled_from(
    [
        "[a]", "[ b ]", "[a]", "k = v", "k=w", "j: v", "  more", "\tdeep = 1", "# c", "; d", "  # e", "", "  ", "l =", "m = x # y",
    ]
)  # fmt: skip
SECTIONS = st.sampled_from(["a", "b", "new"])
KEYS = st.sampled_from(["k", "j", "n"])
WORDS = st.sampled_from(["v", "w", "x y", "1.0", "", "https://x/?a=b", "p\nq"])


def by_python(text: str) -> dict[str, dict[str, list[str]]]:
    """The last value of each key as Python reads it, without comments and blank lines: a second opinion."""
    parser = configparser.RawConfigParser(strict=False, default_section="", allow_no_value=True)
    parser.read_string(text)
    return {
        section.strip(): {key: (value or "").split() for key, value in parser.items(section)}
        for section in parser.sections()
    }


@given(
    lines=st.lists(LINES, max_size=12),
    values=st.dictionaries(SECTIONS, st.dictionaries(KEYS, WORDS, min_size=1, max_size=2), max_size=2),
    end=st.sampled_from(["\n", ""]),
)
def test_whatever_the_file_other_lines_stay(lines: list[str], values: Values, end: str) -> None:
    text = "\n".join(["[first]", *lines]) + end
    try:
        after = edit("f", text, values)
    except TaskFailed as error:
        assert "contains a comment" in error.cause  # noqa: PT017 - between the lines of a value
        return
    assert after is not None
    read = by_python(after)
    assert {
        section: {key: value[-1].split() for key, value in keys.items()}
        for section, keys in settings(FOLDER / "f", after).items()
    } == {section: keys for section, keys in read.items() if keys}
    for section, keys in values.items():
        for key, value in keys.items():
            assert read[section][key] == str(value).split()
    for section in values:
        assert after.count(f"[{section}]") + after.count(f"[ {section} ]") == max(
            1, text.count(f"[{section}]") + text.count(f"[ {section} ]")
        )
    if not values:
        assert after == text
    kept = iter(after.splitlines())
    touched = {"k", "j", "p", "q", "more", "deep"}
    if {"  more", "\tdeep = 1"} & set(lines):
        touched.add("")  # blank lines within a value
    assert all(line in kept for line in text.splitlines() if not touched & set(re.split(r"[\s:=]+", line.strip())))


@given(values=st.dictionaries(st.sampled_from(["new", "other"]), st.dictionaries(KEYS, WORDS, min_size=1), min_size=1))
def test_what_was_added_is_removed_to_the_last_byte(values: Values) -> None:
    for text in (AWS, OPENSSL, SETUP, "[a]\nb = c", "x = 1\n"):
        added = edit("f", text, values)
        assert edit("f", added, {}, *([section] for section in values)) == text
        for section, keys in values.items():
            added = edit("f", added, {}, *([section, key] for key in keys))
        assert settings(FOLDER / "f", added) == settings(FOLDER / "f", text)


@given(
    text=st.text(st.sampled_from("[]=:#; \n\tab\\\"'.-{\x00"), max_size=25),
    name=st.sampled_from(["f", "f.cnf", "f.service"]),
)
def test_whatever_the_text_it_is_edited_or_refused(text: str, name: str) -> None:
    try:
        after = edit(name, text, {"s": {"key": "1"}}, ["a"], ["b", "a"])
    except TaskFailed as error:
        assert error.position is not None  # noqa: PT017 - every refusal has its place
        return
    assert settings(FOLDER / name, after)["s"]["key"] == ["1"]
