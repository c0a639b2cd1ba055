"""The machine's ``aws`` command, which has the notebook role's credentials, and the secrets that it fetches.

Secrets come from AWS Secrets Manager and from Systems Manager's parameters:
https://docs.aws.amazon.com/cli/latest/reference/secretsmanager/get-secret-value.html and
https://docs.aws.amazon.com/cli/latest/reference/ssm/get-parameter.html
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec

from nbprovision.machine.platform import instance, region_of
from nbprovision.model.errors import FactUnavailable, SecretUnavailable, TaskFailed
from nbprovision.system import commands, log, secrets

if TYPE_CHECKING:
    from nbprovision.machine.machine import Machine

Cures = Iterable[tuple[tuple[str, ...], str]]  # words of the command's output in lower case, and the fix for each

_ROLE = (
    "check with `aws sts get-caller-identity` whether this machine has a role; a notebook instance has the role of its "
    "configuration"
)
NO_CREDENTIALS = (("unable to locate credentials", "expiredtoken", "invalidclienttoken", "unrecognizedclient"), _ROLE)
NO_CONNECTION = ("could not connect", "connect timeout", "read timeout", "killed after")
NOT_ALLOWED = ("accessdenied", "not authorized")
_TIMEOUT = 60.0  # seconds; the command retries several times before it gives up
_USUAL_FOLDERS = ("/usr/local/bin", "/usr/bin", "/usr/local/aws-cli/v2/current/bin")
_SHORTEST_LINE = 8  # characters; shorter lines of a secret may occur in any text, so they are not masked alone


class _Secret(msgspec.Struct):
    SecretString: str | None = None


class _Value(msgspec.Struct):
    Value: str


class _Parameter(msgspec.Struct):
    Parameter: _Value


class _Tag(msgspec.Struct):
    Key: str
    Value: str = ""


class _Tags(msgspec.Struct):
    Tags: list[_Tag]


_TAG_CURES: Cures = (
    (NOT_ALLOWED, "allow the notebook's role sagemaker:ListTags on this instance, or do not use nb.tags"),
    NO_CREDENTIALS,
    (
        NO_CONNECTION,
        (
            "check the connection to api.sagemaker.REGION.amazonaws.com: the proxy (https_proxy), or in a VPC without "
            "internet the interface endpoint com.amazonaws.REGION.sagemaker.api"
        ),
    ),
    (("",), "correct the reported error, and run again"),
)

# The subcommand, the permission that it needs, and the text in its answer.
_LOOKUPS: dict[str, tuple[tuple[str, ...], str, Callable[[str], str | None]]] = {
    "aws_secret": (
        ("secretsmanager", "get-secret-value", "--secret-id"),
        "secretsmanager:GetSecretValue",
        lambda answer: msgspec.json.decode(answer, type=_Secret).SecretString,
    ),
    "aws_ssm": (
        ("ssm", "get-parameter", "--with-decryption", "--name"),
        "ssm:GetParameter",
        lambda answer: msgspec.json.decode(answer, type=_Parameter).Parameter.Value,
    ),
}


def find_command(machine: Machine, failure: str) -> str:
    """The path of the command: on the PATH, else in the usual folders, because a lifecycle script's PATH is short.

    Raises:
        TaskFailed: it does not exist; ``failure`` is the message.

    """
    folders = [machine.env.get("PATH", "")]
    if machine.root == Path("/"):
        folders += [*_USUAL_FOLDERS, *(str(base / "bin") for base in machine.conda.installations)]
    command = shutil.which("aws", path=os.pathsep.join(folders))
    if command is None:
        raise TaskFailed(
            failure,
            cause="the `aws` command is not on the PATH",
            cure="install it (https://docs.aws.amazon.com/cli/latest/userguide/getting-started-install.html)",
        )
    return command


def ask(machine: Machine, words: Sequence[str], *, failure: str, cures: Cures) -> str:
    """The command's answer as JSON; it is a secret, so no log shows it.

    Args:
        machine: The machine; the command gets its environment variables.
        words: The arguments.
        failure: The message of an error.
        cures: Fixes for a failed command; the first with a word of its output counts.

    Raises:
        TaskFailed: the command does not exist, or failed.

    """
    argv = [find_command(machine, failure), *words, "--output", "json"]
    try:
        with log.withholding(hidden=True):
            return commands.run(
                argv,
                env=variables(machine),
                timeout=machine.timeout or _TIMEOUT,
                failure=failure,
            ).output
    except TaskFailed as error:
        error.cure = cure_of(error, cures)
        raise


def variables(machine: Machine) -> dict[str, str]:
    """The environment variables of the command."""
    own = {name: value for name, value in machine.env.items() if name != "SUDO_UID"}
    return {**own, "AWS_PAGER": ""}  # no pager waits for a key


def cure_of(error: TaskFailed, cures: Cures) -> str:
    """The fix for a failed command."""
    output = error.cause.lower()
    return next((cure for words, cure in cures if any(word in output for word in words)), error.cure)


def require_command(machine: Machine, kind: str, name: str) -> None:
    """Make sure that the ``aws`` command exists.

    Raises:
        SecretUnavailable: it does not.

    """
    try:
        find_command(machine, _failure(kind, name))
    except TaskFailed as error:
        raise SecretUnavailable(error.message, cause=error.cause, cure=error.cure) from None


def fetch_secret(machine: Machine, kind: str, name: str, region: str | None) -> str:
    """Fetch a value from AWS; every output masks it from now on, with each text in it if it is a JSON document.

    Raises:
        SecretUnavailable: the command or the value does not exist, access is denied, the answer has no text, ...

    """
    command, permission, text_of = _LOOKUPS[kind]
    region = region or region_of(machine.env, machine.root)
    words = [*command, name, *(["--region", region] if region else [])]
    try:
        answer = ask(machine, words, failure=_failure(kind, name), cures=_cures(command[0], permission))
    except TaskFailed as error:
        raise SecretUnavailable(error.message, cause=error.cause, cure=error.cure) from None
    try:
        value = text_of(answer)
    except msgspec.DecodeError:  # the error does not show the answer, which may contain the secret
        value = None
    if value is None:
        raise SecretUnavailable(
            _failure(kind, name),
            cause="the `aws` command's answer has no text, as for a binary secret",
            cure=f"check it by hand: aws {' '.join(command)} {name}",
        )
    for text in _texts(value):
        if text.strip().lower() not in secrets.NO_SECRETS:
            secrets.remember(text)
            secrets.keep_nowhere(text, f"{kind} {name}")
    return value


def fetch_tags(machine: Machine) -> dict[str, str]:
    """The tags of this instance; the values of those whose name is that of a secret are masked from now on.

    https://docs.aws.amazon.com/cli/latest/reference/sagemaker/list-tags.html

    Raises:
        FactUnavailable: the command does not exist, access is denied, ...

    """
    failure = "nb.tags: the tags of this instance cannot be read"
    names = instance(machine.root)
    words = ["sagemaker", "list-tags", "--resource-arn", names["arn"]]
    words += ["--region", names["region"]] if names["region"] else []
    try:
        answer = ask(machine, words, failure=failure, cures=_TAG_CURES)
        tags = msgspec.json.decode(answer, type=_Tags).Tags
    except TaskFailed as error:
        raise FactUnavailable(error.message, cause=error.cause, cure=error.cure) from None
    except msgspec.DecodeError:
        raise FactUnavailable(
            failure,
            cause="the `aws` command's answer is not a list of tags",
            cure=f"check it by hand: aws {' '.join(words)}",
        ) from None
    for tag in tags:
        if secrets.remember_if_secret(tag.Key, tag.Value):
            secrets.keep_nowhere(tag.Value, f"tag {tag.Key}")
    return {tag.Key: tag.Value for tag in tags}


def _failure(kind: str, name: str) -> str:
    return f"lookup('{kind}', '{name}') has no answer"


def _cures(service: str, permission: str) -> Cures:
    return (
        (NOT_ALLOWED, f"allow the notebook's role {permission} on it, and kms:Decrypt with its key"),
        NO_CREDENTIALS,
        (("notfound", "can't find"), "correct its name, or the region: lookup(..., region='eu-west-1')"),
        (
            NO_CONNECTION,
            (
                f"check the connection to {service}.REGION.amazonaws.com: the proxy (https_proxy), or in a VPC without "
                f"internet the interface endpoint com.amazonaws.REGION.{service}"
            ),
        ),
        (("region",), "name its region: lookup(..., region='eu-west-1'), or AWS_REGION"),
        (("",), "correct the reported error, and run again"),
    )


def _texts(value: str) -> Iterator[str]:
    """A value, its lines, and the texts of the JSON document that it may be: a log may show each of them alone."""
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
