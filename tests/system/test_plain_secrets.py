"""One rule for secrets in a rendered script: what it refuses, what it lets pass, and that it never shows a value."""

from __future__ import annotations

from pathlib import Path

import pytest

from nbprovision.cli import main
from nbprovision.cli.export import _Secrets
from nbprovision.lifecycle.secret_text import refuse_in_file
from nbprovision.model.errors import InvalidPlaybook
from nbprovision.system.plain_secrets import secret_as, secret_in
from nbprovision.system.secrets import is_secret, is_secret_name, mask, remember_if_secret

PLAYBOOK = "/home/ec2-user/SageMaker/team.yml"
VALUE = "hunter22"
# Made of parts, so that no scanner takes this file for one that holds them.
SHAPES = [
    "AKIA" + "ABCDEFGHIJ234567",
    "ghp_" + "a1B2" * 9,
    "github_pat_" + "a1B2" * 8,
    "glpat-" + "a1B2" * 5,
    "hf_" + "a1B2" * 8,
    "AIza" + "a1B2c" * 7,
    "eyJhbGciOi" + "J9.eyJzdWIiOi" + "Ix.sig",
    "-----BEGIN RSA PRIVATE" + " KEY-----",
    "-----BEGIN PRIVATE" + " KEY-----",
]

SECRET_NAMES = [
    "password", "index_password", "PGPASSWORD", "DB_PASSWD", "passphrase", "token", "GITHUB_TOKEN", "githubToken", "TOKENS",
    "secret", "AWS_SECRET_ACCESS_KEY", "AWS_ACCESS_KEY_ID", "api_key", "apiKey", "APIKEY", "api-key", "openai_key",
    "credentials", "SSH_KEY", "SIGNING_KEY", "apikey", "ssh_passphrase", "DB_PASS", "DB_PWD", "secretkey", "AWSAccessKey",
    "API_KEYS", "GITHUB_PAT", "http.extraheader", "http.https://host/.extraheader",
]  # fmt: skip
OPEN_NAMES = [
    "SECRET_ARN", "TOKEN_FILE", "AWS_WEB_IDENTITY_TOKEN_FILE", "AWS_SHARED_CREDENTIALS_FILE", "key_path", "secret_name",
    "tokenizer", "TOKENIZERS_PARALLELISM", "max_tokens", "partition_key", "primary_key", "public_key", "key", "keys",
    "keyboard", "monkey", "compass", "token_url", "secretary_path", "credential.helper", "",
    "PWD", "OLDPWD", "bypass", "path", "pattern", "sort_keys", "dict_keys", "user.signingname", "hotkeys",
    "credential_source", "token_provider", "secret_version", "X-aws-ec2-metadata-token-ttl-seconds",
]  # fmt: skip


@pytest.mark.parametrize("name", SECRET_NAMES)
def test_names_of_secrets(name: str) -> None:
    assert is_secret_name(name)
    found = secret_as(name, VALUE)
    assert found is not None
    assert VALUE not in repr(found)


@pytest.mark.parametrize(
    ("name", "value", "hidden"),
    [
        *((name, VALUE, True) for name in SECRET_NAMES),
        ("TOKEN_FILE", VALUE, True),
        ("TOKEN_FILE", "/run/token", False),
        ("TOKEN_FILE", "~/.token", False),
        ("PASSWORD_FILE", "token.txt", False),
        ("GREETING", VALUE, False),
        ("API_TOKEN", "true", False),
        ("API_TOKEN", "", False),
    ],
)
def test_one_rule_says_what_is_hidden(name: str, value: str, hidden: bool) -> None:
    """By whoever is asked: the masks, and the export of a kernel."""
    assert is_secret(name, value) is hidden
    assert remember_if_secret(name, value) is hidden
    assert (value not in mask(f"it is {value}.")) is hidden
    assert (value not in _Secrets().value(name, value)) is hidden


@pytest.mark.parametrize("name", OPEN_NAMES)
def test_names_of_no_secrets(name: str) -> None:
    assert not is_secret_name(name)
    assert secret_as(name, VALUE) is None


@pytest.mark.parametrize(
    "value",
    [
        "",
        "true",
        "No",
        "{{ lookup('env', 'X') }}",
        "${API_TOKEN}",
        "$API_TOKEN",
        "****",
        "arn:aws:secretsmanager:eu:1:x",
        "<token>",
    ],
)
def test_what_stands_for_a_secret_is_none(value: str) -> None:
    assert secret_as("api_token", value) is None


@pytest.mark.parametrize(
    ("name", "value", "secret"),
    [
        ("secret", "my-git-credentials", False),
        ("DB_SECRET", "prod/db/password", False),
        ("credentials", "team/index-login", False),
        ("secret-id", "team/index", False),
        ("AWS_SECRET_KEY", "github.com", False),
        ("signing_key", "/usr/share/keyrings/team.gpg", False),
        ("openai_key", "~/.config/openai", False),
        ("signing_key", "/dFs8a9/x7Gh2kL0/pQ3rT5vY8", True),
        ("secret", "hunter22", True),
        ("secret", "correct-horse-battery", True),
        ("client_secret", "my-secret-password", True),
        ("password", "my-secret-password", True),
        ("AWS_SECRET_KEY", "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEX", True),
        ("secret_id", "6b1d3c1e-9d0f-4f62-9a67-0f3f3c2b1a11", True),
        ("API_KEY", "my.api.key", True),
    ],
)
def test_the_name_of_a_secret_in_a_store_is_not_a_secret(name: str, value: str, secret: bool) -> None:
    assert (secret_as(name, value) is not None) is secret


@pytest.mark.parametrize("shape", SHAPES)
def test_keys_are_told_by_their_form(shape: str) -> None:
    found = secret_in(f"x: {shape} y")
    assert found is not None
    assert found.start == 3
    assert shape not in repr(found)


@pytest.mark.parametrize(
    ("url", "is_secret"),
    [
        (f"http://u:{VALUE}@proxy:3128", True),
        (f"see https://:{VALUE}@host/simple for it", True),
        ("https://abcdefghijklmnopqrstuvwxyz@host/simple", True),
        ("https://abcdef:@host/simple", True),
        ("https://host/t/abcdef/channel", True),
        ("https://bucket.s3.amazonaws.com/a?X-Amz-Signature=abcdef", True),
        ("Authorization: Bearer abcdef", True),
        ("https://u:${PASSWORD}@host", False),
        ("https://u:{{ password }}@host", False),
        ("https://u:$PASSWORD@host", False),
        ("git+ssh://git@github.com/team/a", False),
        ("https://host/simple@2", False),
        ("https://host/t/", False),
        ("http://proxy:3128", False),
    ],
)
def test_urls(url: str, is_secret: bool) -> None:
    found = secret_in(url)
    assert (found is not None) is is_secret
    assert VALUE not in repr(found)


@pytest.mark.parametrize(
    "words",
    [
        ["--env", f"HTTPS_PROXY=http://u:{VALUE}@proxy:3128"],
        ["--env", f"API_TOKEN={VALUE}"],
        ["-e", f"token={VALUE}"],
        ["-e", f'{{"db": {{"password": "{VALUE}"}}}}'],
        ["-e", f"url=https://u:{VALUE}@host"],
        ["-e", "@FILE"],
        ["--index-url", f"https://u:{VALUE}@host/simple"],
        ["--index-url", f"https://{VALUE}@host/simple"],
        ["--tool", f"nbprovision @ https://u:{VALUE}@host/nbprovision-1-py3-none-any.whl"],
    ],
)
def test_options_are_refused_without_their_value(
    words: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "v.yml").write_text(f"settings: {{api_key: {VALUE}}}\n")
    words = [word.replace("FILE", str(tmp_path / "v.yml")) for word in words]
    assert main(["lifecycle", "render", PLAYBOOK, *words]) == 5
    told = capsys.readouterr()
    assert told.out == ""
    assert VALUE not in told.err
    assert f"error: {words[0]}" in told.err
    assert "everybody who may describe the lifecycle configuration can read it" in told.err
    assert len(told.err.splitlines()) == 3


@pytest.mark.parametrize(
    "words",
    [
        ["--env", "HTTPS_PROXY=http://proxy:3128", "--env", "TOKEN_FILE=/home/ec2-user/SageMaker/.token"],
        ["-e", "secret_arn=arn:aws:secretsmanager:eu-west-1:1:secret:x", "-e", "token={{lookup('env','X')}}"],
        ["--index-url", "https://pypi.example.com/simple"],
        ["--tool", "nbprovision @ git+ssh://git@github.com/team/nbprovision", "--assets-url", "s3://team/assets"],
    ],
)
def test_options_without_a_secret_pass(words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    if "--tool" not in words and "--index-url" not in words:
        words = [*words, "--tool", "s3://team/wheels"]
    assert main(["lifecycle", "render", PLAYBOOK, *words]) == 0
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize(
    ("name", "text", "place"),
    [
        ("p.yml", f"- vars:\n    index_password: {VALUE}\n", "2:21"),
        ("p.yml", f"- vars:\n    deep: [{{token: {VALUE}}}]\n", "2:20"),
        ("p.yml", f"- tasks:\n  - ensure_env_var: {{name: API_TOKEN, value: {VALUE}}}\n", "2:46"),
        ("p.yml", f"- tasks:\n  - ensure_command: {{shell: 'export API_TOKEN={VALUE}; go'}}\n", "2:29"),
        ("p.yml", f"- tasks: []\n# https://u:{VALUE}@host\n", "2:3"),
        ("app.ini", f"[a]\npassword = {VALUE}\n", "2:1"),
        ("app.sh", f"tool --password {VALUE}\n", "1:8"),
        ("app.json", f'{{"apiKey": "{VALUE}"}}\n', "1:3"),
        ("app.py", f"token = '{VALUE}'\n", "1:1"),
        ("key.pem", f"a\n{SHAPES[-1]}\n", "2:1"),
    ],
)
def test_files_are_refused_with_the_place(name: str, text: str, place: str) -> None:
    with pytest.raises(InvalidPlaybook) as caught:
        refuse_in_file(name, text)
    assert str(caught.value).startswith(f"{name}:{place}: ")
    assert VALUE not in str(caught.value)


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("p.yml", f"- vars:\n    index_password: {VALUE}  # noqa: plain-secret\n"),
        (
            "p.yml",
            "- vars:\n    index_password: \"{{ lookup('env', 'P') }}\"\n    use_token: true\n    token_file: /x\n",
        ),
        ("p.yml", "- name: Set the password\n  tasks: [{name: the token here, ensure_file: {path: /x}}]\n"),
        ("app.py", "token = get_token(path)\npassword = os.environ['P']\nfor key in keys: pass\n"),
        ("app.sh", 'TOKEN=$(aws secretsmanager get-secret-value)\nexport PASSWORD="$OTHER"\n# the token is here\n'),
        ("notes.md", "The token lies in a file, and the password of the database too.\n"),
    ],
)
def test_files_without_a_secret_pass(name: str, text: str) -> None:
    refuse_in_file(name, text)


def test_a_playbook_and_what_goes_beside_it_are_looked_at(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    playbook = tmp_path / "p.yml"
    playbook.write_text("- tasks:\n    - ensure_file: {path: /x, src: conf.ini}\n")
    (tmp_path / "conf.ini").write_text(f"password={VALUE}\n")
    assert main(["lifecycle", "render", str(playbook), "--inline"]) == 4
    told = capsys.readouterr().err
    assert f"{tmp_path}/conf.ini:1:1: the value of 'password' would be part of the script" in told
    assert VALUE not in told
    playbook.write_text(f"- vars: {{password: {VALUE}}}\n  tasks: [ensure_file: {{path: /x}}]\n")
    assert main(["lifecycle", "render", str(playbook), "--inline"]) == 4
    told = capsys.readouterr().err
    assert "p.yml:1:20: " in told
    assert VALUE not in told
