"""Secrets by the way they are written: each in every place of a rendered script, and what only looks like one."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from nbprovision.cli import main
from nbprovision.lifecycle.secret_text import refuse_in_file, refuse_in_option, refuse_in_variables
from nbprovision.model.errors import InvalidPlaybook, ProvisionError
from nbprovision.system.plain_secrets import secret_in

FORMS = {
    "netrc": "machine h.example login me password VALUE",
    "netrc on lines": "machine h.example\n\tlogin me\n\tpassword VALUE\n",
    "netrc with an account": "machine h login me account x password VALUE",
    "netrc turned round": "machine h password VALUE login me",
    "netrc for all": "default login me password VALUE",
    "curl -u": "curl -fsS -u me:VALUE https://h/x",
    "curl -u quoted": "curl -o 'a;b' -u \"me:VALUE\" 'https://h/x?a=1&b=2'",
    "curl -u in one": "curl -ume:VALUE https://h/x",
    "curl among flags": "curl -fsSu me:VALUE https://h/x",
    "curl --user": "curl https://h/x --user me:VALUE",
    "curl --user=": "curl --user=me:VALUE https://h/x",
    "curl of a proxy": "curl --proxy-user me:VALUE https://h/x",
    "curl without a user": "curl -u :VALUE https://h/x",
    "curl over lines": "curl \\\n  -u me:VALUE \\\n  https://h/x",
    "curl in a program": 'run(["curl", "-u", "me:VALUE", url])',
    "curl with a user of a variable": 'curl -u "$NAME:VALUE" https://h/x',
    "default of a variable": "export A=${API_TOKEN:-VALUE}",
    "wget": "wget --password=VALUE https://h/x",
    "wget in words": "wget --user me --password VALUE https://h/x",
    "wget by http": "wget --http-password=VALUE https://h/x",
    "header": "curl -H 'Authorization: Bearer VALUE' https://h/x",
    "header without a kind": "curl -H 'Authorization: VALUE' https://h/x",
    "header of a service": 'curl --header "PRIVATE-TOKEN: VALUE" https://h/x',
    "header of a key": "curl -H 'X-Api-Key: VALUE' https://h/x",
    "header alone": "Authorization: Bearer VALUE",
    "git with a token": "pip install 'a @ git+https://VALUE@h.example/team/a'",
    "git with user and token": "git clone https://oauth2:VALUE@h.example/team/a",
    "git with a token and nothing": "git clone https://VALUE:@h.example/team/a",
    "channel": "conda install -c https://h.example/t/VALUE/team a",
}


def in_playbook(key: str, text: str) -> str:
    return yaml.safe_dump([{"tasks": [{"ensure_x": {key: text}}]}], width=10_000)


PLACES: dict[str, Callable[[str], None]] = {
    "an option": lambda text: refuse_in_option("--on-finish", text),
    "--env": lambda text: refuse_in_option("--env", text, "SETTING"),
    "-e": lambda text: refuse_in_variables({"a": {"b": [text]}}),
    "a command": lambda text: refuse_in_file("p.yml", in_playbook("shell", text)),
    "a content": lambda text: refuse_in_file("p.yml", in_playbook("content", text)),
    "a script": lambda text: refuse_in_file("x.sh", f"#!/bin/sh\n{text}\n"),
    "a .netrc": lambda text: refuse_in_file(".netrc", text),
}
TOKENS = st.text("abcdefghijkmnopqrstuvwxyzABCDEFGHIJKLMNPQRSTUVWXYZ23456789", min_size=20, max_size=40)
REFERENCES = [
    "$TOKEN", "${TOKEN}", "${TOKEN:-}", "$(cat /run/token)", "`cat /run/token`", "{{token}}", "{{ lookup('env', 'TOKEN') }}",
    "****", "<token>",
]  # fmt: skip


@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("form", FORMS)
@settings(max_examples=10, deadline=None)
@given(value=TOKENS)
def test_whatever_the_value_each_form_is_refused_in_each_place_without_it(form: str, place: str, value: str) -> None:
    with pytest.raises(ProvisionError) as caught:
        PLACES[place](FORMS[form].replace("VALUE", value))
    assert value not in str(caught.value) + repr(caught.value)
    assert all((caught.value.message, caught.value.cause, caught.value.cure))


@pytest.mark.parametrize("reference", REFERENCES)
@pytest.mark.parametrize("form", FORMS)
def test_what_stands_for_a_secret_is_none_in_any_form(form: str, reference: str) -> None:
    if form == "curl in a program" and reference.startswith("{{ "):
        reference = "{{ token }}"  # no quotes in quotes
    text = FORMS[form].replace("VALUE", reference)
    for name, place in PLACES.items():
        if name == "an option" and "https://" in text and "@" in text:
            continue  # there no URL may have a user
        place(text)


@pytest.mark.parametrize(
    "text",
    [
        "git+ssh://git@github.com/team/a",
        "ssh://APKAEIBAERJR2EXAMPLE@git-codecommit.eu-west-1.amazonaws.com/v1/repos/a",
        "git+ssh://ABCDEFGHIJKLMNOPQRSTUVWXYZ012345@h/a",
        "sftp://ABCDEFGHIJKLMNOPQRSTUVWXYZ012345@h/a",
        "https://the-team-of-fraud-and-risk@dev.azure.com/team/a",
        "https://somebody-at-123456789012@git-codecommit.eu-west-1.amazonaws.com/v1/repos/a",
        "https://first.last2024.of-the-team@h/a",
        "git@github.com:team/a.git",
        "https://h/simple@v1.0.0-beta.20240102",
        "curl -u me https://h:8443/x",
        "curl -u me: https://h/x",
        'curl -u "$TOKEN:" https://h/x',
        'curl --aws-sigv4 aws:amz:eu-west-1:s3 --user "${AWS_ACCESS_KEY_ID:-}:${AWS_SECRET_ACCESS_KEY:-}" https://h',
        "curl -n --netrc-file /run/netrc https://h/x",
        "curl https://h/x | docker run -u 1000:1000 i",
        "curl -fsS https://h/x && docker run --user 1000:1000 i",
        "curl -fsS https://h/x; sudo -u me:staff id",
        "curl -H 'Accept: application/json' -H 'Idempotency-Key: 1' https://h/x",
        "curl -H 'X-Token-Type: plain' -d 'user:password' https://h/x",
        "docker run -u 1000:1000 i",
        "default login anonymous password me@example.com",
        "machine learning with a login and a password for each of you",
        "on this machine the password is asked for",
        "the default password is in the vault",
        "pip install nbprovision-0.1.0 --index-url https://h/simple",
    ],
)
def test_what_only_looks_like_one_passes(text: str) -> None:
    assert secret_in(text) is None
    for place in PLACES.values():
        if "https://" not in text or "@" not in text:
            place(text)
    PLACES["a command"](text)
    PLACES["a script"](text)


@pytest.mark.parametrize(
    ("argv", "column"),
    [
        (["curl", "-u", "me:hunter22", "https://h"], 11),
        (["curl", "-fsSu", "me:hunter22"], 14),
        (["curl", "--user=me:hunter22"], 7),
        (["curl", "-H", "PRIVATE-TOKEN: hunter22"], 11),
        (["curl", "-H", "Authorization: Bearer hunter22"], 11),
        (["wget", "--password", "hunter22", "https://h"], 21),
        (["tool", "--api-key", "hunter22"], 20),
    ],
)
def test_words_of_a_list_are_seen_together(argv: list[str], column: int) -> None:
    text = f"- tasks:\n  - ensure_command:\n      argv: {json.dumps(argv)}\n"
    with pytest.raises(InvalidPlaybook) as caught:
        refuse_in_file("p.yml", text)
    assert caught.value.position is not None
    assert caught.value.position.line == 3
    assert "hunter22" not in str(caught.value)
    block = "- tasks:\n  - ensure_command:\n      argv:\n" + "".join(f"        - {json.dumps(word)}\n" for word in argv)
    with pytest.raises(InvalidPlaybook) as caught:
        refuse_in_file("p.yml", block)
    assert caught.value.position is not None
    assert "hunter22" in block.splitlines()[caught.value.position.line - 1]


@pytest.mark.parametrize(
    "argv",
    [
        ["curl", "-u", "me:{{ lookup('env', 'P') }}", "https://h"],
        ["curl", "-u", "me", "https://h:8443"],
        ["sudo", "-u", "me:staff", "id"],
        ["tool", "--password-file", "/run/p"],
        ["tool", "--password", "{{ password }}"],
        ["tool", "--token", "--verbose"],
        ["tool", "-"],
    ],
)
def test_words_of_a_list_without_a_secret_pass(argv: list[str]) -> None:
    refuse_in_file("p.yml", f"- tasks:\n  - ensure_command: {{argv: {json.dumps(argv)}}}\n")


def test_text_for_people_may_speak_of_options() -> None:
    refuse_in_file(
        "p.yml", "- name: Give it --password when asked\n  tasks: [{name: use --token here, ensure_x: {a: b}}]\n"
    )


def test_a_line_that_says_so_is_let_pass() -> None:
    refuse_in_file(
        "p.yml", "- tasks:\n  - ensure_command: {shell: 'curl -u me:public https://h'}  # noqa: plain-secret\n"
    )
    refuse_in_file("x.sh", "curl \\\n  -u me:public https://h # noqa: plain-secret\n")


def test_a_netrc_packed_in_is_refused_with_its_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "netrc").write_text("machine h\n  login me\n  password hunter22\n")
    playbook = tmp_path / "p.yml"
    playbook.write_text("- tasks:\n    - ensure_file: {path: ~/.netrc, src: netrc}\n")
    assert main(["lifecycle", "render", str(playbook), "--inline"]) == 4
    told = capsys.readouterr()
    assert told.out == ""
    assert f"{tmp_path}/netrc:3:3: a password of a .netrc would be part of the script" in told.err
    assert "hunter22" not in told.err


@pytest.mark.parametrize("word", ["a", "curl ", "https://a", "machine a login b "])
def test_the_largest_file_is_read_in_one_go(word: str) -> None:
    """Of 64 KiB; a search that goes back over a long word takes minutes."""
    refuse_in_file("x.sh", (word * 65_536)[:65_536])
