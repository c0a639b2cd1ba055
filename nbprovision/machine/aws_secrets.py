"""Values of AWS Secrets Manager and of Systems Manager's parameters, had by the machine's ``aws`` command.

https://docs.aws.amazon.com/cli/latest/reference/secretsmanager/get-secret-value.html and
https://docs.aws.amazon.com/cli/latest/reference/ssm/get-parameter.html
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import msgspec

from nbprovision.machine import aws_command
from nbprovision.machine.platform import region_of
from nbprovision.model.errors import SecretUnavailable, TaskFailed
from nbprovision.system import commands, log, secrets

if TYPE_CHECKING:
    from nbprovision.machine.machine import Machine

_WORDS = {
    "aws_secret": ("secretsmanager", "get-secret-value", "--secret-id"),
    "aws_ssm": ("ssm", "get-parameter", "--with-decryption", "--name"),
}
_CALLS = {"aws_secret": "secretsmanager:GetSecretValue", "aws_ssm": "ssm:GetParameter"}
_SHORTEST_LINE = 8  # characters of a line of a secret that is masked by itself; shorter ones are in any text


class _Secret(msgspec.Struct):
    SecretString: str | None = None


class _Value(msgspec.Struct):
    Value: str


class _Parameter(msgspec.Struct):
    Parameter: _Value


def require_command(machine: Machine, kind: str, name: str) -> str:
    """The ``aws`` command.

    Raises:
        SecretUnavailable: there is none.

    """
    command = aws_command.find(machine)
    if command is None:
        raise SecretUnavailable(
            f"lookup('{kind}', '{name}') has no answer",
            cause="there is no `aws` command on the PATH",
            cure=aws_command.INSTALL,
        )
    return command


def fetch(machine: Machine, kind: str, name: str, region: str | None) -> str:
    """Ask AWS for a value; it is masked everywhere from now on, with each text in it if it is a JSON document.

    Raises:
        SecretUnavailable: there is no such command, it is not allowed to, there is no such value, no answer came, ...

    """
    what = f"lookup('{kind}', '{name}') has no answer"
    region = region or region_of(machine.env, machine.root)
    argv = [require_command(machine, kind, name), *_WORDS[kind], name, "--output", "json"]
    argv += ["--region", region] if region else []
    env = aws_command.environment(machine)
    try:
        with log.withholding(hidden=True):  # its answer is the secret
            done = commands.run(argv, env=env, timeout=machine.timeout or aws_command.TIMEOUT, failure=what)
    except TaskFailed as error:
        raise SecretUnavailable(error.message, cause=error.cause, cure=_cure(kind, error.cause)) from None
    try:
        value = _value(kind, done.output)
    except msgspec.DecodeError:  # what it said is not shown: the secret may be in it
        value = None
    if value is None:
        raise SecretUnavailable(
            what,
            cause="the `aws` command gave an answer without a text, as for a binary secret",
            cure=f"look at it by hand: aws {' '.join(_WORDS[kind])} {name}",
        )
    for text in _texts(value):
        if text.strip().lower() not in secrets.NO_SECRETS:
            secrets.remember(text)
            secrets.keep_nowhere(text, f"{kind} {name}")
    return value


def _value(kind: str, answer: str) -> str | None:
    if kind == "aws_secret":
        return msgspec.json.decode(answer, type=_Secret).SecretString
    return msgspec.json.decode(answer, type=_Parameter).Parameter.Value


def _texts(value: str) -> Iterator[str]:
    """A value, its lines, and the texts of the JSON document that it may be: each may be shown by itself."""
    yield value
    lines = value.splitlines()
    yield from (line.strip() for line in lines if len(lines) > 1 and len(line.strip()) >= _SHORTEST_LINE)
    try:
        document = msgspec.json.decode(value)
    except msgspec.DecodeError:
        return
    if isinstance(document, dict | list):
        yield from _leaves(document)


def _leaves(document: Any) -> Iterator[str]:
    if isinstance(document, str):
        yield document
    elif isinstance(document, dict | list):
        for part in document.values() if isinstance(document, dict) else document:
            yield from _leaves(part)


def _cure(kind: str, said: str) -> str:
    said = said.lower()
    if "accessdenied" in said or "not authorized" in said:
        return f"let the notebook's role do {_CALLS[kind]} on it, and kms:Decrypt with its key"
    if any(word in said for word in aws_command.NO_CREDENTIALS):
        return aws_command.ROLE
    if "notfound" in said or "can't find" in said:
        return "correct its name, or the region: lookup(..., region='eu-west-1')"
    if any(word in said for word in aws_command.NO_WAY):
        service = _WORDS[kind][0]
        return (
            f"look at the way to {service}.REGION.amazonaws.com: the proxy (https_proxy), or in a VPC without internet "
            f"the interface endpoint com.amazonaws.REGION.{service}"
        )
    if "region" in said:
        return "say in which region it is: lookup(..., region='eu-west-1'), or AWS_REGION"
    return "put right what it complains of, and run once more"
