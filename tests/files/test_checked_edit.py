"""Odd configuration files are edited right, or not at all: the programs that own the formats are the judges."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from nbprovision.files import git_config, yaml_text
from nbprovision.files.checked_edit import edit_configuration
from nbprovision.indexes import pip_conf, uv_toml
from nbprovision.machine.machine import Machine
from nbprovision.model.errors import TaskFailed

URL = "https://mirror.example/simple"
PIP_CONF = Path("/home/user/.config/pip/pip.conf")
UV_TOML = Path("/home/user/.config/uv/uv.toml")


def pips_settings(path: Path) -> dict[str, str]:
    """What pip's own parser reads in a file.

    Raises:
        ConfigurationFileCouldNotBeLoaded: pip stops at it.

    """
    from pip._internal.configuration import Configuration

    configuration = Configuration(isolated=False)
    parser = configuration._construct_parser(str(path))
    return {
        name: value
        for section in parser.sections()
        for name, value in configuration._normalized_keys(section, parser.items(section)).items()
    }


# ---------------------------------------------------------------------------------------------------- the gate itself


def parsed(text: str) -> dict[str, str]:
    if "=" not in text:
        raise ValueError(text)
    return dict(line.split("=") for line in text.splitlines())


@pytest.mark.parametrize(
    ("text", "cause"),
    [
        ("a=1\nb=2", "the edit would give another value to b"),
        ("a=1", "the edit would give another value to b"),
        ("a=1\nb=3\nc=4\nd=5\ne=6\nf=7", "another value to c, d, e and 1 more"),
        ("[", "no longer be valid"),
    ],
)
def test_what_does_not_say_what_it_should_is_not_written(text: str, cause: str) -> None:
    with pytest.raises(TaskFailed, match="stays as it is") as caught:
        edit_configuration(PIP_CONF, text, parsed, {"a": "1", "b": "3"})
    assert cause in caught.value.cause
    assert "by hand" in caught.value.cure
    assert edit_configuration(PIP_CONF, "a=1\nb=3", parsed, {"a": "1", "b": "3"}) == "a=1\nb=3"


@pytest.mark.parametrize("editor", ["pip", "uv", "condarc", "git"])
def test_every_writer_goes_through_it(editor: str, machine: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
    """An editor that errs, whatever it is made of, writes nothing."""
    broken = {
        "pip": (pip_conf, "_set", lambda text, name, words: text.replace("\n", f"\nindex-url = {words[0]}\n", 1)),
        "uv": (uv_toml, "_new", lambda asked: 'index-strategy = "x"\n'),
        "condarc": (yaml_text, "_patched", lambda lines, before, after: [*after, "x: 1"]),
        "git": (git_config, "_quoted", lambda value: "x"),
    }
    module, name, instead = broken[editor]
    monkeypatch.setattr(module, name, instead)
    act = {
        "pip": lambda: pip_conf.merged(PIP_CONF, "[global]\n  timeout = 1\n", {"global.index-url": [URL]}),
        "uv": lambda: uv_toml.merged(UV_TOML, None, {"default": [URL]}),
        "condarc": lambda: yaml_text.edited(Path("/home/user/.condarc"), "y: 1\n", {"channels": ["a"]}),
        "git": lambda: git_config.edit(Path("/home/user/.gitconfig"), "", "a.token", ["c"], machine),
    }
    with pytest.raises(TaskFailed, match="with certainty, and stays as it is"):
        act[editor]()


# -------------------------------------------------------------------------------------------------------------- pip

# Files as people have published them, and what is odd in others. Each says the same to pip after our edit, but for us.
ODD_PIP_CONFS = {
    "indented options": "[global]\n    index-url = https://old/simple\n    timeout = 60\n",
    "indented options, ours is new": "[global]\n    timeout = 60\n    retries = 2\n",
    "indented sections": "[global]\ntimeout = 60\n    [install]\n    user = no\n",
    "all by a tab": "\t[global]\n\ttimeout=1\n\n\t[install]\n\ttrusted-host=mirror.example\n\n\t[list]\n\tformat=columns\n",
    "an empty section before an indented one": "[global]\n   [install]\n   user = no\n",
    "indentation that falls": "[global]\n        a = 1\n    b = 2\n  c = 3\n[list]\n",
    "one blank before the name": "[global]\n# Primary\n index-url        = https://old/simple/\n\n# retries\n retries = 2\n",
    "a continued value": "[global]\n  find-links =\n      /a\n\n      # why\n      /b\n  timeout = 1\n",
    "ours is continued": "[global]\nindex-url =\n    https://old/simple\n\n  timeout\ntimeout = 60\n",
    "Windows": "[global]\r\n    timeout = 60\r\n    retries = 2\r\n[list]\r\nformat = columns",
    "old Macintosh": "[global]\r  timeout = 60\r[list]\rformat = columns\r",
    "percent signs and colons": "[global]\nlog : /tmp/%(x)s:a=b\nproxy: http://u:p%40@h:3128\n",
    "an empty value": "[global]\ntimeout =\nindex-url =\n",
    "a default section": "[DEFAULT]\nindex-url = https://default/simple\ntimeout = 3\n[global]\nretries = 1\n[install]\n",
    "comments behind a section": "[global] ; all of it\n;   indented\n   ; more\n   retries = 1 ; no comment\n",
    "blank lines in a value": "[global]\ntrusted-host = a\n\n    b\n\n\n[list]\n    format = columns\n",
    "another separator of lines": "[global]\nlog = a\x0b b\u2028c\ntimeout = 1\n",
    "another spelling": "[global]\n  --Index_URL=https://old/simple\n  timeout=2\n",
}


@pytest.mark.parametrize("name", ODD_PIP_CONFS)
@pytest.mark.parametrize(
    "asked", [{"global.index-url": [URL]}, {"install.trusted-host": ["a", "b"]}], ids=["one", "list"]
)
def test_pip_reads_what_was_written(name: str, asked: pip_conf.Settings, tmp_path: Path) -> None:
    path = tmp_path / "pip.conf"
    path.write_bytes(ODD_PIP_CONFS[name].encode())
    before = pips_settings(path)
    path.write_bytes(pip_conf.merged(path, ODD_PIP_CONFS[name], asked).encode())
    after = pips_settings(path)
    # A section that is new takes the values of [DEFAULT] for its own.
    defaults = {
        f"{ours.partition('.')[0]}.{option.partition('.')[2]}": value
        for ours in asked
        for option, value in before.items()
        if "[DEFAULT]" in ODD_PIP_CONFS[name] and option.partition(".")[2] in ("index-url", "timeout")
    }
    assert {option: value.split() for option, value in after.items()} == {
        **{option: value.split() for option, value in {**defaults, **before}.items()},
        **asked,
    }


@pytest.mark.parametrize("name", ODD_PIP_CONFS)
def test_pip_reads_what_is_left(name: str, tmp_path: Path) -> None:
    """Taking out is an edit like any other."""
    path = tmp_path / "pip.conf"
    path.write_bytes(ODD_PIP_CONFS[name].encode())
    before = pips_settings(path)
    text = pip_conf.without(path, ODD_PIP_CONFS[name], {"global.index-url": [], "global.timeout": []}) or ""
    path.write_bytes(text.encode())
    gone = () if "[DEFAULT]" in text else ("global.index-url", "global.timeout")
    assert pips_settings(path) == {option: value for option, value in before.items() if option not in gone}


def test_pip_config_list_shows_each_option_on_its_own(tmp_path: Path) -> None:
    """The reproduction of the fault: by the command that a person uses."""
    path = tmp_path / "pip.conf"
    text = "[global]\n    trusted-host = mirror.example\n    timeout = 60\n"
    path.write_text(pip_conf.merged(path, text, {"global.index-url": [URL]}))
    variables = {**os.environ, "PIP_CONFIG_FILE": str(path), "HOME": str(tmp_path)}
    done = subprocess.run(
        [sys.executable, "-m", "pip", "config", "list"],
        env=variables, capture_output=True, text=True, check=True,
    )  # fmt: skip
    lines = [line for line in done.stdout.splitlines() if line.startswith("global.")]
    assert set(lines) >= {f"global.index-url='{URL}'", "global.timeout='60'", "global.trusted-host='mirror.example'"}


PIECES_OF_PIP = st.sampled_from(
    ["[global]", "[install]", "[DEFAULT]", "index-url = x", "timeout=60", "a: b", "find-links =", "/w", "# c", "; d",
     "log = %(x)s", "proxy =", "", "[list] ; e", "Index_URL=y", "=z", "no value", "[]", "]"]
)  # fmt: skip
BLANKS = st.sampled_from(["", "", " ", "    ", "\t", "  \t"])
ENDS = st.sampled_from(["\n", "\n", "\r\n", "\r"])


@settings(max_examples=200, deadline=None)
@given(
    lines=st.lists(st.tuples(BLANKS, PIECES_OF_PIP, ENDS), max_size=9),
    mark=st.sampled_from(["", "", "", "\ufeff"]),
    removed=st.booleans(),
)
def test_whatever_the_pip_conf_it_is_edited_or_refused(
    tmp_path_factory: pytest.TempPathFactory, lines: list[tuple[str, str, str]], mark: str, removed: bool
) -> None:
    """And never refused where pip can read it: each of these can be edited."""
    from pip._internal.exceptions import ConfigurationError

    text = mark + "".join(map("".join, lines))
    assume("[DEFAULT]" not in text or not removed)
    assume(text.count("[DEFAULT]") < 2)  # pip joins them, and nobody writes such a file
    path = tmp_path_factory.mktemp("pip") / "pip.conf"
    path.write_bytes(text.encode())
    try:
        before = pips_settings(path)
    except ConfigurationError:
        with pytest.raises(TaskFailed):
            pip_conf.merged(path, text, {"global.index-url": [URL]})
        return
    if removed:
        result = pip_conf.without(path, text, {"global.index-url": []}) or ""
        before.pop("global.index-url", None)
    else:
        result = pip_conf.merged(path, text, {"global.index-url": [URL]})
        before["global.index-url"] = URL
    path.write_bytes(result.encode())
    after = pips_settings(path)
    assert {name: after.get(name) for name in before} == before
    if "[DEFAULT]" not in text:
        assert after == before


# --------------------------------------------------------------------------------------------------------------- uv

ODD_UV_TOMLS = {
    "indented": '  link-mode = "copy"\n  [[index]]\n    url = "https://x/simple"\n    name = "x"\n',
    "Windows, with a mark": '\ufefflink-mode = "copy"\r\n\r\n[pip]\r\nstrict = true\r\n',
    "indexes apart": '[[index]]\nurl = "https://a"\n\n[pip]\nstrict = true\n\n[[index]]\nurl = "https://b"\ndefault = true\n',
    "dotted keys": 'pip.strict = true\npip.no-build = false\n[[index]]\nurl="https://a"',
    "an inline table, and comments": 'index = [\n  # mine\n  {url = "https://a", explicit = true, name = "a"}, # why\n]\n[pip]\n',
    "a table at the end": "[pip]\n# the last\nno-build = true",
    "empty lists": "index = []\nfind-links = [ ]\n",
    "quoted names": '"link-mode" = \'copy\'\n["pip"]\n"strict"=true\n',
    "strings of several lines": 'cache-dir = """\n/c\\\n"""\nfind-links = [\n "/a",\n\t"/b",\n]\n',
    "nothing but a comment": "# mine",
}
UV_ASKED: uv_toml.Settings = {
    "default": [URL], "extra": ["https://e.example/simple"], "find-links": ["/w w"], "index-strategy": ["first-index"]
}  # fmt: skip


@pytest.mark.parametrize("name", ODD_UV_TOMLS)
def test_uv_reads_what_was_written(name: str, tmp_path: Path) -> None:
    """uv takes the file, and says by its own words that ours is in it; the rest is compared as plain data."""
    tomllib = pytest.importorskip("tomllib")  # from Python 3.11 on

    text = ODD_UV_TOMLS[name]
    result = uv_toml.merged(UV_TOML, text, UV_ASKED)
    before, after = (tomllib.loads(each.removeprefix("\ufeff")) for each in (text, result))
    ours = ("index", "find-links", "index-strategy")
    assert {key: after[key] for key in after if key not in ours} == {
        key: before[key] for key in before if key not in ours
    }
    kept = [index for index in before.get("index", []) if not index.get("default")]
    assert [index for index in after["index"] if index in kept] == kept
    path = tmp_path / "uv.toml"
    path.write_bytes(result.encode())
    uv = shutil.which("uv", path=os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]]))
    assert uv is not None
    variables = {**os.environ, "UV_CONFIG_FILE": str(path), "HOME": str(tmp_path)}
    done = subprocess.run(
        [uv, "pip", "install", "--show-settings", "x"], env=variables, capture_output=True, text=True, check=True
    )
    assert "mirror.example" in done.stdout
    assert "e.example" in done.stdout


PIECES_OF_UV = st.sampled_from(
    ['link-mode = "copy"', "[pip]", "strict = true", "[[index]]", 'url = "https://a"', "default = true", "# c", "",
     'index = [{url = "https://b"}]', "index = []", 'find-links = ["/a"]', "[pip.x]", "a.b = 1", "[a]", "c = 2"]
)  # fmt: skip


@settings(max_examples=200, deadline=None)
@given(
    lines=st.lists(st.tuples(BLANKS, PIECES_OF_UV, st.sampled_from(["\n", "\r\n"])), max_size=9),
    mark=st.sampled_from(["", "", "\ufeff"]),
)
def test_whatever_the_uv_toml_it_is_edited_or_refused(lines: list[tuple[str, str, str]], mark: str) -> None:
    tomllib = pytest.importorskip("tomllib")  # from Python 3.11 on

    text = mark + "".join(map("".join, lines))
    try:
        result = uv_toml.merged(UV_TOML, text, UV_ASKED)
    except TaskFailed:
        return
    before: dict[str, Any] = tomllib.loads(text.removeprefix("\ufeff"))
    after: dict[str, Any] = tomllib.loads(result.removeprefix("\ufeff"))
    assert {key: after.get(key) for key in before if key not in ("index", "find-links")} == {
        key: before[key] for key in before if key not in ("index", "find-links")
    }
    assert uv_toml.matching(UV_TOML, result, UV_ASKED) == UV_ASKED


# -------------------------------------------------------------------------------------------------------------- git

NEEDS_GIT = pytest.mark.skipif(shutil.which("git") is None, reason="there is no git")
PIECES_OF_GIT = st.sampled_from(
    ["[user]", "[User]", '[remote "a"]', '[remote "A\\"b"]', "[remote.a]", "[user] email = x", "name = A", 'email = "a # b"',
     "email = old ; why", "# c", "; d", "bare", "Email=x\\", "  y \\n\\t", 'url = "a" b', "", "x-y = 1", "x = \\q", "= z", "[", "]",
     "[include]", "path = ~/other", "email =", "[a.b.c]", "\ufeff", "k = a\tb  ", "[core", '[user "]']
)  # fmt: skip


@NEEDS_GIT
@settings(max_examples=100, deadline=None)
@given(
    lines=st.lists(st.tuples(BLANKS, PIECES_OF_GIT, st.sampled_from(["\n", "\n", "\r\n"])), max_size=8),
    mark=st.sampled_from(["", "", "\ufeff"]),
    last=st.booleans(),
    name=st.sampled_from(["user.email", "remote.a.url", 'remote.A"b.email', "core.x"]),
    wanted=st.sampled_from([["ada@example.org"], ["a", "b # c"], []]),
)
def test_whatever_the_gitconfig_it_is_edited_or_refused(
    tmp_path_factory: pytest.TempPathFactory,
    lines: list[tuple[str, str, str]],
    mark: str,
    last: bool,
    name: str,
    wanted: list[str],
) -> None:
    text = mark + "".join(map("".join, lines))
    text = text if last else text.rstrip("\r\n")
    machine = Machine({"PATH": os.environ["PATH"]}, home=tmp_path_factory.mktemp("git"))
    path = Path("/x/.gitconfig")
    try:
        before = git_config.list_variables(path, text, machine)
        result = git_config.edit(path, text, name, wanted, machine)
    except TaskFailed:
        return
    machine.notes.clear()
    before.pop(name, None)
    assert git_config.list_variables(path, result, machine) == ({**before, name: wanted} if wanted else before)


# ------------------------------------------------------------------------------------------------------------ conda

# Files as people have published them, and what is odd in others.
ODD_CONDARCS = {
    "flags": "auto_update_conda: false #!final\nchannels: #!final\n  - nodefaults #!bottom\n  - site  # why\nenvs_dirs: [/e/$USER] #!final\n",
    "a flag in the list": "channels:\n  - b #!bottom\n  # of ours\n  - conda-forge #!top\nproxy_servers:\n  http: http://p:1 #!final\n",
    "dashes under the key": "channels:\n- a\n- conda-forge\nalways_yes: yes\nenv_prompt: '({name}) '\n",
    "indented as a whole": "  channels:\n    - a\n  ssl_verify: no\n  default_python:\n",
    "Windows": "channels:\r\n  - a\r\nproxy_servers:\r\n    http: socks5://127.0.0.1:1080\r\n    https: socks5://127.0.0.1:1080\r\n",
    "a mark": "\ufeffchannels: [a, defaults]\nshow_channel_urls: True\n",
    "no end": "channels:\n  - defaults\nremote_read_timeout_secs: 1_000.5",
    "numbers and truths of YAML 1.1": "a: 010\nb: 12:30\nc: on\nd: 1_0\ne: 0o17\nf: ~\ng: Off\nchannels: [a]\n",
    "quotes and blocks": "channels: ['a', \"b\"]\nx: |\n  text #!final\n  more\ny: >-\n   folded\n\n   twice\nz: 'it''s'\n",
    "links to the web": "default_channels:\n  - https://mirror.example/anaconda/pkgs/main\ncustom_channels:\n  conda-forge: https://mirror.example/anaconda/cloud\n",
    "no values at all": "channels:\ndefault_channels:\nproxy_servers:\n",
    "a document in its marks": "%YAML 1.1\n---\nchannels: [a]\n# below\n...\n",
}  # fmt: skip
WANTED_OF_CONDA: list[dict[str, Any]] = [
    {"channels": ["new", "a"]}, {"channels": None}, {"ssl_verify": "/ca.pem"}, {"zz": 5},
    {"custom_channels": {"conda-forge": "https://mirror.example/anaconda/cloud", "lab": "https://lab.example"}},
]  # fmt: skip


def condas_settings(text: str) -> dict[str, Any]:
    """What conda's parser makes of a file, and its comments behind settings, which may be flags."""
    from ruamel.yaml import YAML

    document: Any = YAML(typ="rt").load(text.removeprefix("\ufeff").replace("\r\n", "\n"))
    return {
        name: (value, [str(comment.value).strip() for comment in document.ca.items.get(name, ()) if getattr(comment, "value", "").startswith("#!")])
        for name, value in (document or {}).items()
    }  # fmt: skip


def test_text_that_is_a_number_to_some_parser_is_text_to_conda() -> None:
    texts = ["0o17", "010", "1_0", "12:30", "0x1f", "1e3", ".5", "on", "~", "1.10", "y", "=", "2020-01-01", ".inf"]
    result = yaml_text.edited(Path("/home/user/.condarc"), None, {"channels": texts, "x": "0o17", "y": {"0o1": "0o2"}})
    assert {name: value for name, (value, _) in condas_settings(result or "").items()} == {
        "channels": texts,
        "x": "0o17",
        "y": {"0o1": "0o2"},
    }


@pytest.mark.parametrize("name", ODD_CONDARCS)
@pytest.mark.parametrize("wanted", WANTED_OF_CONDA, ids=["list", "absent", "scalar", "new", "mapping"])
def test_conda_reads_what_was_written(name: str, wanted: dict[str, Any]) -> None:
    text = ODD_CONDARCS[name]
    if "%YAML" in text and "channels" not in wanted:
        text = text.replace("%YAML 1.1\n", "")
    before = condas_settings(text)
    after = condas_settings(yaml_text.edited(Path("/home/user/.condarc"), text, wanted) or "")
    assert {key: value for key, value in after.items() if key not in wanted} == {
        key: value for key, value in before.items() if key not in wanted
    }
    assert {key: after[key][0] if key in after else None for key in wanted} == wanted
    for key in wanted:
        if key in before and key in after:
            assert after[key][1] == before[key][1], "the flag stays"


def test_what_conda_itself_refuses_is_refused_with_its_place() -> None:
    """PyYAML takes the last of two equal keys; conda's parser takes none."""
    text = "proxy_servers:\n  http: p #!final\n  http: q\n"
    with pytest.raises(TaskFailed) as caught:
        yaml_text.edited(Path("/home/user/.condarc"), text, {"channels": ["a"]})
    assert str(caught.value.position) == "/home/user/.condarc:3:3"
    assert "the key 'http' is a duplicate" in str(caught.value.cause)


PIECES_OF_CONDA = st.sampled_from(
    ["channels:", "  - a", "- b", "  - c #!top", "x: 1 #!final", "channels: [a, b] #!final", "channels: #!final", "# c",
     "", "proxy_servers:", "  http: p #!final", "  https: q", "y: {a: 1}", "z: |", "  text", "k: 'a", "  b'", "n: ~", "...", "---"]
)  # fmt: skip


@settings(max_examples=200, deadline=None)
@given(
    lines=st.lists(st.tuples(PIECES_OF_CONDA, st.sampled_from(["\n", "\n", "\r\n"])), max_size=9),
    wanted=st.sampled_from(WANTED_OF_CONDA),
)
def test_whatever_the_condarc_it_is_edited_or_refused(lines: list[tuple[str, str]], wanted: dict[str, Any]) -> None:
    text = "".join(map("".join, lines))
    try:
        result = yaml_text.edited(Path("/home/user/.condarc"), text, wanted)
    except TaskFailed:
        return
    if result == text:  # which conda may be unable to read
        return
    before, after = condas_settings(text), condas_settings(result or "")
    assert {key: value for key, value in after.items() if key not in wanted} == {
        key: value for key, value in before.items() if key not in wanted
    }
    assert {key: after[key][0] if key in after else None for key in wanted} == wanted
