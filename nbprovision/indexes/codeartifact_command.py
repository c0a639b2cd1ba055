"""Tokens of AWS CodeArtifact, had by the machine's ``aws`` command with the credentials of the notebook's role."""

from __future__ import annotations

import datetime as dt
import time
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import msgspec

from nbprovision.files.config_file import SECRET_MODE
from nbprovision.indexes.codeartifact import Held, Repository, digest, token_record
from nbprovision.machine import aws_command
from nbprovision.model.errors import TaskFailed
from nbprovision.system import commands, log, secrets
from nbprovision.system.files import write_atomically

if TYPE_CHECKING:
    from nbprovision.machine.machine import Machine

TIMEOUT = aws_command.TIMEOUT

_PERMISSIONS = (
    "let the notebook's role do codeartifact:GetAuthorizationToken on the domain and sts:GetServiceBearerToken, "
    "and codeartifact:ReadFromRepository on the repository"
)
_WAY = (
    "look at the way to codeartifact.REGION.amazonaws.com: the proxy (https_proxy), or in a VPC without internet "
    "the interface endpoints com.amazonaws.REGION.codeartifact.api and .codeartifact.repositories"
)
# What the command says, in lower case, and what to do about it.
_CURES = (
    (("accessdenied", "not authorized"), _PERMISSIONS),
    (aws_command.NO_CREDENTIALS, aws_command.ROLE),
    (("resourcenotfound", "does not exist"), "correct `domain`, `owner` (the account that owns it) and `region`"),
    (("invalid choice",), "this `aws` is too old to know CodeArtifact: bring it up to date"),
    (aws_command.NO_WAY, _WAY),
    (("region",), "correct `region`"),
)


class Token(NamedTuple):
    """A token, and when it was given and ends, in seconds since the epoch."""

    text: str
    issued: float
    expires: float


class _Answer(msgspec.Struct):
    authorizationToken: str  # noqa: N815 - the command's word
    expiration: float | str


def find_command(repository: Repository, machine: Machine) -> str:
    """The path of the ``aws`` command; a check looks no further.

    Raises:
        TaskFailed: it does not exist.

    """
    command = aws_command.find(machine)
    if command is None:
        raise TaskFailed(_failure(repository), cause="there is no `aws` command on the PATH", cure=aws_command.INSTALL)
    return command


def _failure(repository: Repository) -> str:
    return f"no token for CodeArtifact's domain '{repository.domain}' ({repository.region}) could be had"


def fetch(repository: Repository, machine: Machine) -> Token:
    """Ask AWS for a token; it is masked everywhere from now on.

    Raises:
        TaskFailed: there is no such command, it is not allowed to, the domain is not there, no answer came, ...

    """
    what = _failure(repository)
    command = find_command(repository, machine)
    argv = [
        command, "codeartifact", "get-authorization-token",
        "--domain", repository.domain, "--domain-owner", repository.owner, "--region", repository.region,
        "--duration-seconds", f"{repository.duration:.0f}", "--output", "json",
    ]  # fmt: skip
    issued = time.time()
    machine.progress("a token from CodeArtifact")
    try:
        with log.withholding(hidden=True):  # its answer is the token
            done = commands.run(
                argv, env=aws_command.environment(machine), timeout=machine.timeout or TIMEOUT, failure=what
            )
    except TaskFailed as error:
        told = error.cause.lower()
        error.cure = next((cure for words, cure in _CURES if any(word in told for word in words)), error.cure)
        raise
    try:
        answer = msgspec.json.decode(done.output, type=_Answer)
        expires = _moment(answer.expiration)
    except (msgspec.DecodeError, ValueError):
        # What it said is not shown: there may be a token in it.
        raise TaskFailed(
            what,
            cause=f"{command} gave an answer that is not understood",
            cure=f"look at what it is: {command} --version tells that of AWS's own command",
        ) from None
    secrets.remember(answer.authorizationToken)
    return Token(answer.authorizationToken, issued, expires)


def note(pip_conf: Path, repository: Repository, token: Token) -> None:
    """Record until when the token in ``pip_conf`` is good; the token itself is not in it."""
    record = Held(url=repository.url, digest=digest(token.text), issued=token.issued, expires=token.expires)
    write_atomically(token_record(pip_conf), msgspec.json.encode(record), mode=SECRET_MODE)


def _moment(expiration: float | str) -> float:
    """Version 1 of the command tells seconds since the epoch, version 2 a date."""
    if isinstance(expiration, str):
        return dt.datetime.fromisoformat(expiration.replace("Z", "+00:00")).timestamp()
    return expiration
