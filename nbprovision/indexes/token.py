"""The token of an index at CodeArtifact: whether the one in place will do, and putting a new one there."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from pathlib import Path
from urllib.parse import unquote

import msgspec

from nbprovision.files import config_file
from nbprovision.files.config_file import Write
from nbprovision.indexes import codeartifact_command, settings
from nbprovision.indexes import url as index_url
from nbprovision.indexes.codeartifact import CodeArtifact, Repository, digest, held, repository
from nbprovision.machine.machine import Machine
from nbprovision.model.errors import TaskFailed
from nbprovision.system import secrets
from nbprovision.system.files import read_text

# Stands for a token that is not there yet, in what is only planned; too short to be taken for a secret.
_TO_COME = "--"


class TokenState(msgspec.Struct, frozen=True, kw_only=True):
    """The index's repository, and the token that stands in pip.conf.

    Attributes:
        repository: Where the index is.
        token: The token in place, None where there is none for this index, or one that has ended.
        renew: A new one is to be had.
        warnings: That a new one could not be had.

    """

    repository: Repository
    token: str | None
    renew: bool
    warnings: tuple[str, ...] = ()

    def __repr__(self) -> str:
        """Without the token: a traceback prints it."""
        return f"TokenState({self.repository.url}, renew={self.renew})"

    @property
    def url(self) -> str:
        """The index's URL with the token in place, or with a word for the one to come."""
        return self.repository.with_token(self.token or _TO_COME)


def look(asked: CodeArtifact, machine: Machine, pip_conf: Path) -> TokenState:
    """The token in ``pip_conf``, and whether to renew it: from half its life on, or where nothing tells its age.

    Raises:
        TaskFailed: pip.conf is none, the repository's region or owner is not known, or no command gives the token that
            is needed.

    """
    place = repository(asked, machine.env, machine.root)
    token = _token_in(pip_conf, place)
    record = held(pip_conf)
    known = record is not None and token is not None and record.digest == digest(token)
    now = time.time()
    if record is not None and known and now >= record.expires:
        token = None
    renew = token is None or record is None or not known or not record.issued <= now < record.half_life
    if token is None:
        codeartifact_command.find_command(place, machine)  # so that a check fails where the run would
    warnings = machine.notes.get(_note(pip_conf), ())
    return TokenState(repository=place, token=token, renew=renew and not (warnings and token), warnings=warnings)


def bring(state: TokenState, machine: Machine, pip_conf: Path, writes_with: Callable[[str], Iterable[Write]]) -> None:
    """Put the index in place, with a new token where that is due.

    Where none can be had, one that still holds is kept, and the result says so; the next run asks again.

    Args:
        state: From `look`.
        machine: Its environment is the command's.
        pip_conf: The file of pip's.
        writes_with: The files' new contents, for a URL with its token.

    Raises:
        TaskFailed: no token could be had, and there is none that holds.

    """
    new = None
    if state.renew:
        try:
            new = codeartifact_command.fetch(state.repository, machine)
        except TaskFailed as error:
            if state.token is None:
                raise
            machine.notes[_note(pip_conf)] = (f"the token in place is kept: {error.text}",)
    url = state.repository.with_token(new.text) if new is not None else state.url
    for write in writes_with(url):
        config_file.put(write)
    if new is not None:
        codeartifact_command.note(pip_conf, state.repository, new)


def _token_in(pip_conf: Path, place: Repository) -> str | None:
    text = read_text(pip_conf)
    url = settings.parse_pip_conf(pip_conf, text).get("global", {}).get("index-url", "") if text else ""
    if not url or settings.place(url) != place.url:
        return None
    token = unquote(index_url.secret_of(url)) or None
    if token is not None:
        index_url.remember(url)
        secrets.remember(token)
    return None if token == _TO_COME else token


def _note(pip_conf: Path) -> tuple[str, str]:
    return ("codeartifact", str(pip_conf))
