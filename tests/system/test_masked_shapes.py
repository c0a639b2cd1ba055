"""Secrets that their form shows are masked in every output, although nothing has named them as secrets."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from nbprovision.system.plain_secrets import secret_in
from nbprovision.system.secrets import SHAPES, mask

KEY = "-----BEGIN OPENSSH PRIVATE KEY-----\nb3BlbnNzaC1rZXktcGFub25l\nAAAAE2VjZHNhLXNoYTItcA\n-----END OPENSSH PRIVATE KEY-----\n"
SAMPLES = {
    "an access key of AWS": "AKIAIOSFODNN7EXAMPLE",
    "a token of GitHub": "ghp_1234567890abcdefghij1234567890abcdef",
    "a token of GitLab": "glpat-1234567890abcdefghij",
    "a token of Slack": "xoxb-1234567890-abcdef",
    "a token of PyPI": "pypi-AgEIcHlwaS5vcmcCJDU3ZjM3MTk",
    "a token of npm": "npm_" + "a1B2" * 9,
    "a token of Docker Hub": "dckr_pat_1234567890abcdefghij",
    "a token of Databricks": "dapi" + "0a" * 16,
    "a token of Hugging Face": "hf_" + "aB" * 17,
    "a key of Google": "AIza" + "a1-_X" * 7,
    "a signed token (JWT)": "eyJhbGciOiJI.eyJzdWIiOiIx.c2lnbmF0dXJl",
    "a private key": KEY,
}


@pytest.mark.parametrize("what", [what for what, _ in SHAPES])
def test_a_form_is_masked(what: str) -> None:
    text = f"before\nvalue = {SAMPLES[what]}\nafter"
    found = secret_in(text)
    assert found is not None
    assert found.what == what
    shown = mask(text)
    assert shown.startswith("before\nvalue = ")
    assert shown.endswith("\nafter")
    assert SAMPLES[what] not in shown
    assert "****" in shown


@example("AIza" + "0" * 34 + "-")
@given(st.sampled_from(SHAPES[:-1]).flatmap(lambda shape: st.from_regex(shape[1].replace(r"\b", ""), fullmatch=True)))
def test_the_shortest_of_a_form_is_masked_where_it_is_all_of_a_text(text: str) -> None:
    """What a text cannot hold, for its length or its letters, is not looked for."""
    assert text not in mask(text)
    assert text not in mask(f"x {text} y")


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("a://b:c@d", "a://b:****@d"),
        ("/t/x/", "/t/****/"),
        ("?key=x", "?key=****"),
        ("authorization=basic x", "authorization=basic ****"),
    ],
)
def test_the_shortest_of_a_url_and_of_a_header_is_masked(text: str, shown: str) -> None:
    assert mask(text) == shown


def test_no_part_of_a_private_key_is_shown() -> None:
    for text in (KEY, KEY[:70], KEY.replace("\n", "\\n")):
        assert "b3Blbn" not in mask(text)
        assert "AAAAE2" not in mask(text)


def test_a_password_of_a_netrc_is_masked() -> None:
    assert (
        mask("machine h.example\n login me\n password hunter22\n") == "machine h.example\n login me\n password ****\n"
    )


@pytest.mark.parametrize(
    "text", ["glob the files", "the password is asked for", "eyJ", "sha256 npm_config_cache", "PRIVATE KEY"]
)
def test_other_text_stays(text: str) -> None:
    assert mask(text) == text


def test_a_file_that_a_task_writes_is_shown_and_stored_without_them(env: dict[str, str], tmp_path: Path) -> None:
    (tmp_path / "key").write_text(KEY)
    (tmp_path / "p.yml").write_text(
        "- tasks:\n    - ensure_file: {path: ~/.ssh/key, src: key, mode: '0600'}\n"
        "    - ensure_file: {path: ~/.netrc, content: 'machine h login me password hunter22', mode: '0600'}\n"
        f"    - ensure_line: {{path: ~/.npmrc, line: '//r/:x={SAMPLES['a token of npm']}', create: true}}\n"
    )
    command = [sys.executable, "-m", "nbprovision", "run", "p.yml", "--diff", "-vv"]
    done = subprocess.run(command, env=env, cwd=tmp_path, capture_output=True, text=True, check=True)
    home = Path(env["NBPROVISION_HOME"])
    texts = [done.stdout, done.stderr, (home / "last-run.json").read_text(), (home / "log/nbprovision.log").read_text()]
    for text in texts:
        for secret in ("b3Blbn", "hunter22", SAMPLES["a token of npm"]):
            assert secret not in text
    assert len(json.loads(texts[2])["tasks"]) == 3
