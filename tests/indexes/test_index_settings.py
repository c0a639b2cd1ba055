"""What pip would use, told without starting pip: tables of files and variables, and real pip as the judge."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from nbprovision.indexes import index_settings
from nbprovision.indexes.index_settings import effective, pip_environment, uv_environment
from nbprovision.model.errors import TaskFailed
from nbprovision.system import secrets

# name: files ({home}, {prefix}, {etc} are folders), variables, and the fields that differ from the defaults
CASES: dict[str, tuple[dict[str, str], dict[str, str], dict[str, object]]] = {
    "nothing": ({}, {}, {}),
    "user": ({"{home}/.config/pip/pip.conf": "[global]\nindex-url = https://a/simple\n"}, {}, {"index_url": "https://a/simple"}),
    "newer user file over the older one": (
        {"{home}/.config/pip/pip.conf": "[global]\nindex-url = https://new\n", "{home}/.pip/pip.conf": "[global]\nindex-url = https://old\ntimeout=7\n"},
        {}, {"index_url": "https://new", "timeout": "7"},
    ),
    "user over machine": (
        {"{etc}/xdg/pip/pip.conf": "[global]\nindex-url = https://xdg\ntrusted-host = t\n", "{etc}/pip.conf": "[global]\nindex-url = https://etc\n", "{home}/.config/pip/pip.conf": "[global]\nretries = 1\n"},
        {}, {"index_url": "https://etc", "trusted_hosts": ["t"], "retries": "1"},
    ),
    "environment over user": (
        {"{home}/.config/pip/pip.conf": "[global]\nindex-url = https://user\n", "{prefix}/pip.conf": "[global]\nindex-url = https://site\n"},
        {}, {"index_url": "https://site"},
    ),
    "install over global, whatever the file": (
        {"{etc}/pip.conf": "[install]\nindex-url = https://etc\n[download]\nindex-url = https://no\n", "{prefix}/pip.conf": "[global]\nindex-url = https://site\n"},
        {}, {"index_url": "https://etc"},
    ),
    "a variable over all": ({"{prefix}/pip.conf": "[install]\nindex-url = https://site\n"}, {"PIP_INDEX_URL": "https://var"}, {"index_url": "https://var"}),
    "an empty value is none": ({"{prefix}/pip.conf": "[global]\nindex-url = https://site\n[install]\nindex-url =\n"}, {"PIP_INDEX_URL": ""}, {"index_url": "https://site"}),
    "any spelling": ({"{prefix}/pip.conf": "[global]\nExtra_Index_URL : https://b https://c\n"}, {"PIP_PYPI_URL": "https://p"}, {"index_url": "https://p", "extra_urls": ["https://b", "https://c"]}),
    "lists over lines, comments inside": (
        {"{prefix}/pip.conf": "[global]\nextra-index-url =\n    https://b\n    # no\n    https://c\n\nfind-links = /x\n  https://y\n; no\ntrusted-host = h:8 i\n"},
        {}, {"extra_urls": ["https://b", "https://c"], "find_links": ["/x", "https://y"], "trusted_hosts": ["h:8", "i"]},
    ),
    "no interpolation": ({"{prefix}/pip.conf": "[global]\nindex-url = https://u:p%40%%w@h/%(x)s\n"}, {}, {"index_url": "https://u:p%40%%w@h/%(x)s"}),
    "defaults of every section": ({"{prefix}/pip.conf": "[DEFAULT]\nindex-url = https://d\n[global]\ntimeout=1\n"}, {}, {"index_url": "https://d", "timeout": "1"}),
    "no index": ({"{prefix}/pip.conf": "[global]\nno-index = yes\nfind-links = /wheels\n"}, {}, {"no_index": True, "find_links": ["/wheels"]}),
    "no index, taken back": ({"{prefix}/pip.conf": "[global]\nno-index = yes\n"}, {"PIP_NO_INDEX": "0"}, {}),
    "cert": ({"{prefix}/pip.conf": "[global]\ncert = ~/ca.pem\nclient-cert = ~/me.pem\nproxy = http://p:3\n"}, {}, {"cert": "{home}/ca.pem", "client_cert": "{home}/me.pem", "proxy": "http://p:3"}),
    "another file in place of the user's": (
        {"{home}/.config/pip/pip.conf": "[global]\nindex-url = https://user\ntimeout = 3\n", "{home}/my.conf": "[global]\nindex-url = https://mine\n", "{prefix}/pip.conf": "[global]\nindex-url = https://site\n"},
        {"PIP_CONFIG_FILE": "{home}/my.conf"}, {"index_url": "https://mine"},
    ),
    "another file that is not there": ({"{home}/.config/pip/pip.conf": "[global]\nindex-url = https://user\n"}, {"PIP_CONFIG_FILE": "{home}/none"}, {"index_url": "https://user"}),
    "no file at all": ({"{home}/.config/pip/pip.conf": "[global]\nindex-url = https://user\n"}, {"PIP_CONFIG_FILE": "/dev/null", "PIP_RETRIES": "2"}, {"retries": "2"}),
    "XDG folders": (
        {"{home}/x/pip/pip.conf": "[global]\nindex-url = https://x\n", "{home}/d1/pip/pip.conf": "[global]\ntimeout = 1\n", "{home}/d2/pip/pip.conf": "[global]\ntimeout = 2\n"},
        {"XDG_CONFIG_HOME": "{home}/x", "XDG_CONFIG_DIRS": "{home}/d1:{home}/d2"}, {"index_url": "https://x", "timeout": "2"},
    ),
}  # fmt: skip

# The same, for what pip does not know of.
UV_CASES: dict[str, tuple[dict[str, str], dict[str, str], dict[str, object]]] = {
    "uv's variables where pip says nothing": (
        {}, {"UV_DEFAULT_INDEX": "https://d", "UV_INDEX_URL": "https://old", "UV_INDEX": "https://e n=https://f", "UV_FIND_LINKS": "/a,/b", "UV_INSECURE_HOST": "h", "UV_INDEX_STRATEGY": "unsafe-best-match"},
        {"index_url": "https://d", "extra_urls": ["https://e", "https://f"], "find_links": ["/a", "/b"], "trusted_hosts": ["h"], "index_strategy": "unsafe-best-match"},
    ),
    "uv's user file over the machine's": (
        {"{home}/.config/uv/uv.toml": '[[index]]\nurl = "https://u"\ndefault = true\n[[index]]\nurl = "https://e1"\n[[index]]\nurl = "https://no"\nexplicit = true\nname = "x"\n', "{etc}/uv/uv.toml": 'index-url = "https://m"\nextra-index-url = ["https://e2"]\nindex-strategy = "unsafe-best-match"\n'},
        {}, {"index_url": "https://u", "extra_urls": ["https://e1", "https://e2"], "index_strategy": "unsafe-best-match"},
    ),
    "uv's pip table": ({"{home}/.config/uv/uv.toml": 'no-index = false\n[pip]\nno-index = true\nfind-links = ["/w"]\n'}, {}, {"no_index": True, "find_links": ["/w"]}),
    "credentials of a named index": ({}, {"UV_DEFAULT_INDEX": "my-own=https://d/simple", "UV_INDEX_MY_OWN_USERNAME": "me", "UV_INDEX_MY_OWN_PASSWORD": "p@ss"}, {"index_url": "https://me:p%40ss@d/simple"}),
    "uv's further places are not added to pip's index": (
        {"{prefix}/pip.conf": "[global]\nindex-url = https://pip\n"}, {"UV_INDEX": "https://public", "UV_FIND_LINKS": "/w", "UV_INDEX_STRATEGY": "unsafe-first-match"},
        {"index_url": "https://pip", "index_strategy": "unsafe-first-match"},
    ),
    "uv's index beside pip's extra ones": ({"{prefix}/pip.conf": "[global]\nextra-index-url = https://e\n"}, {"UV_DEFAULT_INDEX": "https://d", "UV_INDEX": "https://no"}, {"index_url": "https://d", "extra_urls": ["https://e"]}),
    "the environment's own strategy": ({"{prefix}/pip.conf": "[nbprovision]\nindex-strategy = unsafe-best-match\n"}, {"UV_INDEX_STRATEGY": "first-index"}, {"index_strategy": "unsafe-best-match"}),
    "no configuration of uv": ({"{home}/.config/uv/uv.toml": 'index-url = "https://u"\n'}, {"UV_NO_CONFIG": "1"}, {}),
    "another file of uv": ({"{home}/.config/uv/uv.toml": 'index-url = "https://u"\n', "{home}/my.toml": 'index-url = "https://mine"\n'}, {"UV_CONFIG_FILE": "{home}/my.toml"}, {"index_url": "https://mine"}),
    "certificates as the library below pip takes them": ({}, {"REQUESTS_CA_BUNDLE": "/ca.pem", "SSL_CERT_FILE": "/other.pem"}, {"cert": "/ca.pem"}),
}  # fmt: skip


def laid_out(
    tmp_path: Path, files: dict[str, str], variables: dict[str, str]
) -> tuple[dict[str, str], dict[str, Path]]:
    """Write the files of a case; its variables with the folders filled in."""
    folders = {"home": tmp_path / "home", "prefix": tmp_path / "prefix", "etc": tmp_path / "etc"}
    for folder in folders.values():
        folder.mkdir(exist_ok=True)
    for name, text in files.items():
        path = Path(name.format(**folders))
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    env = {name: value.format(**folders) for name, value in variables.items()}
    return {"HOME": str(folders["home"]), **env}, folders


@pytest.mark.parametrize("name", [*CASES, *UV_CASES])
def test_effective(name: str, tmp_path: Path) -> None:
    """Every source in its rank."""
    files, variables, expected = {**CASES, **UV_CASES}[name]
    env, folders = laid_out(tmp_path, files, variables)
    found = effective(env, folders["home"], folders["prefix"], root=tmp_path)
    defaults: dict[str, object] = {"index_url": None, "extra_urls": [], "find_links": [], "no_index": False, "trusted_hosts": [], "cert": None,
                "client_cert": None, "proxy": None, "timeout": None, "retries": None, "index_strategy": "first-index"}  # fmt: skip
    wanted = defaults | expected
    for key in ("cert", "client_cert"):
        wanted[key] = wanted[key] and str(wanted[key]).format(**folders)
    shown = {key: list(value) if isinstance(value := getattr(found, key), tuple) else value for key in wanted}
    assert shown == wanted
    assert set(found.origins) == set(expected)


_ASK_PIP = """
import json, os, sys
from pathlib import Path
from pip._internal.commands import create_command
answers = []
for case in json.load(sys.stdin):
    for name in [name for name in os.environ if name.startswith(("PIP_", "XDG_"))]:
        del os.environ[name]
    os.environ.update(case["env"])
    sys.prefix = case["prefix"]
    options = create_command("install").parser.get_default_values()
    answers.append({
        "index_url": options.index_url, "extra_urls": options.extra_index_urls, "find_links": options.find_links,
        "no_index": options.no_index, "trusted_hosts": options.trusted_hosts, "cert": options.cert,
        "client_cert": options.client_cert, "proxy": options.proxy or None, "timeout": options.timeout,
        "retries": options.retries,
    })
print(json.dumps(answers))
"""


@pytest.mark.engine
def test_pip_itself_agrees(tmp_path: Path) -> None:
    """Real pip, asked for the options that it would work with, says the same in every case."""
    asked, ours = [], []
    for number, (files, variables, _) in enumerate(CASES.values()):
        (tmp_path / str(number)).mkdir()
        env, folders = laid_out(tmp_path / str(number), files, variables)
        if any("{etc}/pip.conf" in name for name in files):
            continue  # pip's own /etc/pip.conf cannot be moved; if this machine has one, both of us read it
        env.setdefault("XDG_CONFIG_DIRS", f"{folders['etc']}/xdg")
        asked.append({"env": env, "prefix": str(folders["prefix"])})
        ours.append(effective(env, folders["home"], folders["prefix"]))
    done = subprocess.run(
        [sys.executable, "-c", _ASK_PIP], input=json.dumps(asked), capture_output=True, text=True, check=True,
        env={"PATH": "/usr/bin:/bin", "LANG": "C.UTF-8"},
    )  # fmt: skip
    for said, settings in zip(json.loads(done.stdout), ours, strict=True):
        assert (said["index_url"] or "").rstrip("/") == (settings.index_url or "https://pypi.org/simple").rstrip("/")
        assert said["extra_urls"] == list(settings.extra_urls)
        assert said["find_links"] == list(settings.find_links)
        assert bool(said["no_index"]) == settings.no_index
        assert said["trusted_hosts"] == list(settings.trusted_hosts)
        assert (said["cert"], said["client_cert"], said["proxy"]) == (
            settings.cert,
            settings.client_cert,
            settings.proxy,
        )
        assert float(said["timeout"]) == float(settings.timeout or 15)
        assert int(said["retries"]) == int(settings.retries or 5)


def test_disagreement_is_told(tmp_path: Path) -> None:
    """Pip's index is followed, uv's is named, without passwords."""
    env, folders = laid_out(
        tmp_path,
        {"{prefix}/pip.conf": "[global]\nindex-url = https://me:canary77@pip/simple\n"},
        {"UV_DEFAULT_INDEX": "https://uv/simple"},
    )
    found = effective(env, folders["home"], folders["prefix"], root=tmp_path)
    assert found.index_url == "https://me:canary77@pip/simple"
    assert len(found.disagreements) == 1
    assert "https://uv/simple (UV_DEFAULT_INDEX)" in found.disagreements[0]
    assert "canary77" not in found.disagreements[0] + repr(found) + secrets.mask("canary77")
    env["UV_DEFAULT_INDEX"] = "https://pip/simple/"
    env["PIP_INDEX_URL"] = "https://pip/simple"
    assert effective(env, folders["home"], folders["prefix"], root=tmp_path).disagreements == ()


@pytest.mark.parametrize("text", ["index-url = x\n", "[global]\na=1\na=2\n", "[global]\nno-index\n"])
def test_a_broken_file_is_named(text: str, tmp_path: Path) -> None:
    """Pip stops at it; so do we, with its name."""
    env, folders = laid_out(tmp_path, {"{prefix}/pip.conf": text}, {})
    with pytest.raises(TaskFailed, match=r"prefix/pip\.conf"):
        effective(env, folders["home"], folders["prefix"], root=tmp_path)
    env, folders = laid_out(tmp_path, {"{prefix}/pip.conf": "", "{home}/.config/uv/uv.toml": "[[index\n"}, {})
    with pytest.raises(TaskFailed, match=r"uv\.toml"):
        effective(env, folders["home"], folders["prefix"], root=tmp_path)


def test_what_pip_passes_over(tmp_path: Path) -> None:
    """Pip ignores what it cannot open; a folder in the place of a file harms nobody."""
    env, folders = laid_out(tmp_path, {}, {})
    (folders["prefix"] / "pip.conf").mkdir()
    assert effective(env, folders["home"], folders["prefix"], root=tmp_path).index_url is None


def test_environments_of_both_engines() -> None:
    """Everything set for one is set for the other; passwords are in variables, never in arguments."""
    settings = index_settings.IndexSettings(
        index_url="https://me:pw@a/simple", extra_urls=("https://b", "https://c"), find_links=("/w x,y", "https://l"),
        trusted_hosts=("h:1", "i"), cert="/ca.pem", client_cert="/me.pem", proxy="http://p", timeout="7.5", retries="2",
        no_index=True, index_strategy="unsafe-best-match",
    )  # fmt: skip
    uv = uv_environment(settings)
    assert uv["UV_DEFAULT_INDEX"] == "https://me:pw@a/simple"
    assert uv["UV_INDEX"] == "https://b https://c"
    assert uv["UV_FIND_LINKS"] == "file:///w%20x%2Cy,https://l"
    assert uv["UV_INSECURE_HOST"] == "h:1 i"
    assert uv["SSL_CERT_FILE"] == "/ca.pem"
    assert uv["UV_HTTP_TIMEOUT"] == "7"
    assert uv["UV_INDEX_STRATEGY"] == "unsafe-best-match"
    assert index_settings.uv_arguments(settings) == ["--no-index"]
    pip = pip_environment(settings)
    assert pip["PIP_INDEX_URL"] == "https://me:pw@a/simple"
    assert pip["PIP_EXTRA_INDEX_URL"] == "https://b https://c"
    assert pip["PIP_FIND_LINKS"] == "file:///w%20x%2Cy https://l"
    assert pip["PIP_NO_INDEX"] == "1"
    assert pip_environment(index_settings.IndexSettings()) == {}
