"""Tokens of AWS CodeArtifact, had by the machine's ``aws`` command with the credentials of the notebook's role."""

from __future__ import annotations

import datetime as dt
import os
import shutil
import time
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import msgspec

from nbprovision.backends.config_file import SECRET_MODE
from nbprovision.facts.codeartifact import Held, Repository, digest, token_record
from nbprovision.model.errors import TaskFailed
from nbprovision.system import commands, secrets
from nbprovision.system.files import write_atomically

if TYPE_CHECKING:
    from nbprovision.facts.machine import Machine

TIMEOUT = 60.0  # seconds; the command itself tries again several times before it gives up
_USUAL_FOLDERS = ("/usr/local/bin", "/usr/bin", "/usr/local/aws-cli/v2/current/bin")

_PERMISSIONS = (
    "let the notebook's role do codeartifact:GetAuthorizationToken on the domain and sts:GetServiceBearerToken, "
    "and codeartifact:ReadFromRepository on the repository"
)
_ROLE = (
    "see by `aws sts get-caller-identity` whether this machine has a role; on a notebook instance it is the one that "
    "the instance was given"
)
_WAY = (
    "look at the way to codeartifact.REGION.amazonaws.com: the proxy (https_proxy), or in a VPC without internet "
    "the interface endpoints com.amazonaws.REGION.codeartifact.api and .codeartifact.repositories"
)
# What the command says, in lower case, and what to do about it.
_CURES = (
    (("accessdenied", "not authorized"), _PERMISSIONS),
    (("unable to locate credentials", "expiredtoken", "invalidclienttoken", "unrecognizedclient"), _ROLE),
    (("resourcenotfound", "does not exist"), "correct `domain`, `owner` (the account that owns it) and `region`"),
    (("invalid choice",), "this `aws` is too old to know CodeArtifact: bring it up to date"),
    (("could not connect", "connect timeout", "read timeout", "killed after"), _WAY),
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


def fetch(repository: Repository, machine: Machine) -> Token:
    """Ask AWS for a token; it is masked everywhere from now on.

    Raises:
        TaskFailed: there is no such command, it is not allowed to, the domain is not there, no answer came, ...

    """
    what = f"no token for CodeArtifact's domain '{repository.domain}' ({repository.region}) could be had"
    command = _command(machine)
    if command is None:
        raise TaskFailed(
            what,
            cause="there is no `aws` command on the PATH",
            cure="install it (https://docs.aws.amazon.com/cli/latest/userguide/getting-started-install.html)",
        )
    argv = [
        command, "codeartifact", "get-authorization-token",
        "--domain", repository.domain, "--domain-owner", repository.owner, "--region", repository.region,
        "--duration-seconds", f"{repository.duration:.0f}", "--output", "json",
    ]  # fmt: skip
    env = {name: value for name, value in machine.env.items() if name != "SUDO_UID"}
    issued = time.time()
    machine.progress("a token from CodeArtifact")
    try:
        done = commands.run(argv, env={**env, "AWS_PAGER": ""}, timeout=machine.timeout or TIMEOUT, failure=what)
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


def _command(machine: Machine) -> str | None:
    """The command on the PATH, else in the usual places: a lifecycle script's PATH is short."""
    folders = [machine.env.get("PATH", "")]
    if machine.root == Path("/"):
        folders += [*_USUAL_FOLDERS, *(str(base / "bin") for base in machine.conda.installations)]
    return shutil.which("aws", path=os.pathsep.join(folders))
