"""``ensure_pip_index``: where pip and uv fetch packages from, for a user, the machine or one environment."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Annotated, Literal, Protocol
from urllib.parse import urlsplit

import msgspec

from nbprovision.files.config_file import (
    OTHER_PASSWORD,
    SECRET_MODE,
    Before,
    ConfigScope,
    ConfigurationFile,
    Write,
    changes_of,
    put,
    read_configured,
    record_of,
    refuse_missing,
    refuse_persistent,
)
from nbprovision.indexes import codeartifact, index_settings, index_url, pip_conf, uv_toml
from nbprovision.indexes.codeartifact import CodeArtifact, TokenState, seconds_left, token_record
from nbprovision.machine.machine import Machine
from nbprovision.model.errors import ParameterError
from nbprovision.model.relations import OneOf, Requires
from nbprovision.model.result import Change, Plan
from nbprovision.model.task import Resource, Strings, as_list, parameter
from nbprovision.system import secrets
from nbprovision.system.files import remove


class Editor(Protocol):
    """What `pip_conf` and `uv_toml` both do with the text of their file."""

    def matching(self, path: Path, text: str | None, asked: dict[str, list[str]]) -> dict[str, list[str]]:
        """Those of ``asked`` that are there."""

    def merged(self, path: Path, text: str | None, asked: dict[str, list[str]]) -> str:
        """``text`` with them."""

    def without(self, path: Path, text: str, asked: dict[str, list[str]]) -> str | None:
        """``text`` without them."""

    def undone(
        self, path: Path, text: str, before: str | None, asked: Sequence[dict[str, list[str]]], *, forced: bool = False
    ) -> str | None:
        """``text`` with what was asked for in earlier runs given back."""


EDITORS: dict[str, Editor] = {"pip": pip_conf, "uv": uv_toml}


class Subject(msgspec.Struct, frozen=True):
    """One file of one tool, and what it is to say."""

    tool: Literal["pip", "uv"]
    file: ConfigurationFile
    asked: dict[str, list[str]]


class IndexState(msgspec.Struct, frozen=True):
    """What is there.

    Attributes:
        subjects: The files.
        volume: What survives a restart, None where there is no such difference.
        missing: The environment, if it does not exist and no earlier task of the playbook creates it.
        warnings: What is stronger than the files, and what is seldom meant.
        token: That of an index at CodeArtifact.
    """

    subjects: tuple[Subject, ...]
    volume: Path | None = None
    missing: Path | None = None
    warnings: tuple[str, ...] = ()
    token: TokenState | None = None


class IndexPlan(Plan, frozen=True, kw_only=True):
    """The changes, and the files as they are to be; those with a token to come are made when it is there."""

    writes: tuple[Write, ...] = ()
    token: TokenState | None = None


_STRATEGIES = {"first-index": index_settings.FIRST_INDEX, "best-match": index_settings.BEST_MATCH}
_PUBLIC = ("pypi.org", "www.pypi.org", "files.pythonhosted.org", "test.pypi.org")
_HOST = re.compile(r"(\[[0-9a-fA-F:.]+\]|[A-Za-z0-9._-]+)(:\d{1,5})?")


class EnsurePipIndex(ConfigScope[IndexState], frozen=True, kw_only=True):
    """Where pip and uv fetch packages from.

    Merges into pip.conf, and for ``scope: user`` and ``scope: system`` into uv.toml: what else these files say, and
    their comments, stay. An environment has no configuration of uv's own, so there nbprovision hands pip's settings to
    uv; a uv that is started by hand goes by the user's. What the files said before is kept beside them
    (``pip.conf.nbprovision-before``, 0600), and ``state: absent`` gives it back.

    A file that gets a password becomes 0600. Such a file is never written to the volume that survives restarts, into
    an environment (which is cloned, packed and shared), or for the whole machine (whose users could not read it).
    A link in the place of a file is replaced by a file with the content of what it named, which stays as it is.

    With ``codeartifact`` the machine's `aws` command gives the token, and each run past half its life renews it, which
    is no change. Where AWS does not answer, a token that still holds is kept, and a note says so.
    """

    relations = (
        OneOf(("url", "codeartifact"), required=False),
        Requires("state", "present", ("url", "codeartifact")),
        *ConfigScope.relations,
    )
    actions = {
        "create": "pip.conf or uv.toml",
        "change": "what it says",
        OTHER_PASSWORD: "the password of an index, which is not shown",
        "change mode": "who may read it",
        "replace link": "a link in the file's place by a file",
        "remove": "the file as it says nothing any more, or the record of what it said before",
    }
    examples = """
    - name: An index of one's own, into which uv looks before pypi.org
      ensure_pip_index:
        url: https://pypi.org/simple
        extra_urls: https://pypi.example.com/simple

    - name: An index for one environment, with its own certificate authority
      ensure_pip_index:
        scope: env
        env: fraud
        url: https://pypi.example.com/simple
        cert: /etc/ssl/certs/ca-certificates.crt

    - name: A repository of AWS CodeArtifact
      ensure_pip_index:
        codeartifact:
          domain: team
          repository: python
          owner: "111122223333"
          region: eu-west-1

    - name: As it was before
      ensure_pip_index:
        state: absent
    """

    url: Annotated[
        str | None,
        parameter("The index (PEP 503): an http, https or file URL, mostly ending in /simple. Needed for `present`."),
    ] = None
    codeartifact: Annotated[
        CodeArtifact | None,
        parameter("A repository of AWS CodeArtifact instead of `url`: `domain`, `repository`; `owner` and `region` "
                  "where they are not this instance's; `duration` of a token (`15m` to `12h`, the default); `endpoint` "
                  "of a VPC, the URL before `/pypi/`."),
    ] = None  # fmt: skip
    extra_urls: Annotated[
        Strings | None,
        parameter("Further indexes. uv looks into them before `url`; pip takes the best version of all."),
    ] = None
    trusted_hosts: Annotated[Strings | None, parameter("`host` or `host:port` whose certificate is not checked.")] = (
        None
    )
    cert: Annotated[str | None, parameter("File with the certificate authorities to trust.", extra={"path": True})] = (
        None
    )
    find_links: Annotated[
        Strings | None,
        parameter(
            "Folders or pages with wheels and source distributions beside the indexes.", extra={"path": "if-no-url"}
        ),
    ] = None
    index_strategy: Annotated[
        Literal["first-index", "best-match"] | None,
        parameter("With several indexes, uv takes the first that has a name (`first-index`, uv's default), or as pip "
                  "does the best version of all (`best-match`)."),
    ] = None  # fmt: skip
    state: Annotated[Literal["present", "absent"], parameter("`absent` gives back what the files said before.")] = (
        "present"
    )

    def check(self) -> None:
        """Check what can be known without looking at the machine."""
        if self.codeartifact is not None and self.codeartifact.wrong_duration:
            raise ParameterError("codeartifact", f"`duration: {self.codeartifact.duration}` is not 15m to 12h")
        for key, url in self._urls():
            index_url.check(key, url)
            index_url.remember(url)
        for host in as_list(self.trusted_hosts):
            if not _HOST.fullmatch(host):
                named = urlsplit(host).netloc.rpartition("@")[2]
                raise ParameterError(
                    "trusted_hosts",
                    f"'{secrets.mask(host)}' is not a host",
                    cure=f"write {named}" if named else "write `host` or `host:port`",
                )
        for key, texts in (("cert", [self.cert or "x"]), ("find_links", as_list(self.find_links))):
            if not all(text.strip() and text.isprintable() for text in texts):
                raise ParameterError(key, f"`{key}` is empty or holds a line break or control character")
        if self._secret and self.state == "present":
            self.refuse_exposed("url", "an index with a password")

    @property
    def _secret(self) -> bool:
        return self.codeartifact is not None or any(index_url.secret_of(url) for _, url in self._urls())

    def _urls(self) -> Iterable[tuple[str, str]]:
        if self.url is not None:
            yield "url", self.url
        yield from (("extra_urls", url) for url in as_list(self.extra_urls))
        yield from (("find_links", link) for link in as_list(self.find_links) if "://" in link)

    def provides(self, machine: Machine) -> frozenset[Resource]:
        """The index, by its pip.conf."""
        return frozenset({Resource("index", str(self._pip_conf(machine)))})

    def ages(self, machine: Machine) -> float | None:
        """A token is to be renewed from half its life on."""
        if self.codeartifact is None or self.state == "absent":
            return None
        return seconds_left(self._pip_conf(machine))

    def read(self, machine: Machine) -> IndexState:
        """The files as they stand, and what would overrule them."""
        pip_conf = self._pip_conf(machine)
        if self.codeartifact is not None and self.state == "present":
            token = codeartifact.read_token(self.codeartifact, machine, pip_conf)
            return msgspec.structs.replace(self._at(token.url).read(machine), token=token)
        subjects = [Subject("pip", read_configured(pip_conf), self._asked_of_pip(machine))]
        if self.scope != "env":
            subjects.append(Subject("uv", read_configured(self._uv_toml(machine)), self._asked_of_uv(machine)))
        warnings = [*self._doubts(machine), *self._overruled(machine, subjects)] if self.state == "present" else []
        return IndexState(tuple(subjects), machine.platform.volume, self.missing(machine), tuple(warnings))

    def plan(self, state: IndexState) -> IndexPlan:
        """Compare the files with what they are to say.

        Raises:
            TaskFailed: there is no such environment, a password would get onto the persistent volume, or this user
                may not write the file.
        """
        present = self.state == "present"
        if present:
            refuse_missing(state.missing)
        changes: list[Change] = []
        writes: list[Write] = []
        for subject in state.subjects:
            write = self._ensured(subject) if present else _given_back(subject)
            if write is None:
                continue
            if present and self._secret:
                refuse_persistent(
                    subject.file,
                    subject.file.place / subject.file.path.name,
                    state.volume,
                    what="an index with a password",
                    cure="leave the password out of `url` and set PIP_INDEX_URL and UV_DEFAULT_INDEX for the session "
                    "instead",
                )
            self.refuse_unwritable(subject.file)
            writes.append(write)
            changes += _changes(subject.file, write)
        if state.token is None:
            return IndexPlan(changes=tuple(changes), warnings=state.warnings, writes=tuple(writes))
        changes = [change for change in changes if change.action != OTHER_PASSWORD]
        return IndexPlan(
            changes=tuple(changes),
            warnings=(*state.warnings, *state.token.warnings),
            upkeep=not changes and (bool(writes) or state.token.renew),
            token=state.token,
        )

    def apply(self, plan: IndexPlan, machine: Machine) -> None:
        """Write the files.

        Raises:
            TaskFailed: the environment is not there, or a file cannot be written.
        """
        if self.state == "present":
            refuse_missing(self.prefix(machine))
        pip_conf = self._pip_conf(machine)
        if plan.token is not None:
            codeartifact.put_token(plan.token, machine, pip_conf, lambda url: self._writes_at(url, machine))
        for write in plan.writes:
            put(write)
        if self.codeartifact is not None and self.state == "absent":
            remove(token_record(pip_conf))

    def _at(self, url: str) -> EnsurePipIndex:
        """The same with a URL that has its token."""
        return msgspec.structs.replace(self, url=url, codeartifact=None)

    def _writes_at(self, url: str, machine: Machine) -> tuple[Write, ...]:
        task = self._at(url)
        return task.plan(task.read(machine)).writes

    def witnesses(self, machine: Machine) -> Iterable[Path]:
        """The files and their records."""
        paths = [self._pip_conf(machine)] + ([self._uv_toml(machine)] if self.scope != "env" else [])
        tokens = [] if self.codeartifact is None else [token_record(paths[0])]
        return [*paths, *map(record_of, paths), *tokens]

    def _pip_conf(self, machine: Machine) -> Path:
        user = index_settings.user_pip_conf(machine.env, machine.user_home)
        return self.file(
            machine, index_settings.PIP_CONF, user=user, system=index_settings.system_pip_conf(machine.root)
        )

    def _uv_toml(self, machine: Machine) -> Path:
        if self.scope == "system":
            return index_settings.system_uv_toml(machine.env, machine.root)
        return index_settings.user_uv_toml(machine.env, machine.user_home)

    def _links(self, machine: Machine) -> list[str]:
        """``find_links`` with folders made absolute, and as URLs where pip's list would fall apart at a blank."""
        return [
            link if "://" in link else index_settings.as_url(str(machine.path(link)))
            for link in as_list(self.find_links)
        ]

    def _asked_of_pip(self, machine: Machine) -> dict[str, list[str]]:
        asked = {
            "global.index-url": [self.url] if self.url else [],
            "global.extra-index-url": as_list(self.extra_urls),
            "global.trusted-host": as_list(self.trusted_hosts),
            "global.cert": [str(machine.path(self.cert))] if self.cert else [],
            "global.find-links": self._links(machine),
        }
        if self.scope == "env" and self.index_strategy:  # pip passes over this section; uv's own file has it elsewhere
            asked[f"{index_settings.OWN_SECTION}.index-strategy"] = [_STRATEGIES[self.index_strategy]]
        return {name: words for name, words in asked.items() if words}

    def _asked_of_uv(self, machine: Machine) -> dict[str, list[str]]:
        """uv.toml knows no ``cert``: nbprovision hands it to uv by SSL_CERT_FILE."""
        asked = {
            "default": [self.url] if self.url else [],
            "extra": as_list(self.extra_urls),
            "index-strategy": [_STRATEGIES[self.index_strategy]] if self.index_strategy else [],
            "allow-insecure-host": as_list(self.trusted_hosts),
            "find-links": self._links(machine),
        }
        return {name: words for name, words in asked.items() if words}

    def _ensured(self, subject: Subject) -> Write | None:
        """What the file is to become, or None where it says what is asked for."""
        file, asked, editor = subject.file, subject.asked, EDITORS[subject.tool]
        before = _standing(file)
        to_record = {name: [index_settings.place(word) for word in words] for name, words in asked.items()}
        newest = before is None or (before.asked[-1:] == (to_record,) and _digest(file.text) not in before.written[:-1])
        in_place = newest and editor.matching(file.path, file.text, asked) == asked
        without_us = file.text if in_place else _without_us(file, editor, forced=True)
        text = file.text if in_place else editor.merged(file.path, without_us, asked)
        mode = _mode(file, secret=self._secret)
        exposed = file.link is not None and self._secret
        if text == file.text and mode == file.mode and not exposed:
            return None
        if text == file.text and not exposed:
            return Write(path=file.path, text=text, mode=mode, record=file.before)
        record = Before(
            content=_bytes(without_us),
            mode=before.mode if before else file.mode,
            link=before.link if before else file.link,
            folders=before.folders if before else file.missing,
            written=(*(before.written[-1:] if before else ()), _digest(text)),
            asked=(*(before.asked[-1:] if before else ()), to_record),
        )
        return Write(path=file.path, text=text, mode=mode, record=record)

    def _doubts(self, machine: Machine) -> Iterable[str]:
        """What is allowed and yet seldom meant."""
        for key, url in self._urls():
            parts = urlsplit(url)
            if (
                parts.scheme == "http"
                and index_url.secret_of(url)
                and parts.hostname not in ("localhost", "127.0.0.1", "::1")
            ):
                yield f"the password of {secrets.mask(url)} travels unencrypted: use https"
            path = parts.path.rstrip("/")
            if key != "find_links" and (path.endswith("/pypi") or (parts.hostname in _PUBLIC and path == "")):
                yield f"{secrets.mask(url)} looks like a site and not like its index: indexes mostly end in /simple"
        public = [url for url in as_list(self.extra_urls) if urlsplit(url).hostname in _PUBLIC]
        if public and urlsplit(self.url or "").hostname not in _PUBLIC:
            yield (
                f"anyone can publish on {public[0]}, and uv looks into extra_urls before url: a package there would be "
                "taken instead of yours of the same name; make it `url`, and your index one of `extra_urls`"
            )
        if self.cert and not machine.path(self.cert).exists():
            yield f"there is no {machine.path(self.cert)} (`cert`): pip fails until it is there"

    def _overruled(self, machine: Machine, subjects: Sequence[Subject]) -> Iterable[str]:
        """What pip and uv would be told otherwise, by something stronger than the files that are written here."""
        settings = index_settings.effective(
            machine.env,
            machine.user_home,
            self.prefix(machine),
            root=machine.root,
            instead={subject.file.path: _model(subject) for subject in subjects},
        )
        asked = subjects[0].asked
        pip_conf = subjects[0].file.path
        for name, field in (
            ("index-url", "index_url"),
            ("extra-index-url", "extra_urls"),
            ("trusted-host", "trusted_hosts"),
            ("cert", "cert"),
            ("find-links", "find_links"),
        ):
            words = asked.get(f"global.{name}", [])
            found = getattr(settings, field)
            origin = settings.origins.get(field, index_settings.UV_TOML)
            # Neither a pip.conf nor a variable of pip's gave the value.
            passed_over = origin.startswith("UV_") or index_settings.UV_TOML in origin
            if words and (passed_over or words != ([found] if isinstance(found, str) else list(found))):
                because = "PIP_CONFIG_FILE makes it read other files" if passed_over else f"{origin} is stronger"
                yield f"pip does not take `{name}` from {pip_conf}: {because}"
            elif words and field == "index_url" and self.scope != "env":
                yield from settings.disagreements
        if settings.no_index:
            yield f"pip asks no index: {settings.origins['no_index']} sets `no-index`"
        no_index = index_settings.of_uv(machine.env, machine.user_home, machine.root).get("no_index")
        if no_index and self.scope != "env":
            yield f"uv, started by hand, asks no index: {no_index.origin} sets `no-index`"


def _standing(file: ConfigurationFile) -> Before | None:
    """The record, if there still is something of ours in the file."""
    return file.before if file.before and not file.before.given_back and file.text is not None else None


def _without_us(file: ConfigurationFile, editor: Editor, *, forced: bool) -> str | None:
    """What the file would say had we never written to it; ``forced`` as `Editor.undone` has it."""
    before = _standing(file)
    if before is None or file.text is None:
        return file.text
    if _digest(file.text) in before.written:
        return _text(before.content)
    return editor.undone(file.path, file.text, _text(before.content), before.asked, forced=forced)


def _given_back(subject: Subject) -> Write | None:
    """What the file becomes for ``state: absent``, or None where nothing of what was asked for is there."""
    file, asked, editor = subject.file, subject.asked, EDITORS[subject.tool]
    if file.before is None:
        there = editor.matching(file.path, file.text, asked)
        if file.text is None or not there:
            return None
        return Write(path=file.path, text=editor.without(file.path, file.text, there), mode=file.mode)
    if file.before.given_back:
        return None
    text = _without_us(file, editor, forced=False)
    as_it_was = text == _text(file.before.content) and file.text is not None
    own = bool(editor.matching(file.path, text, asked))
    return Write(
        path=file.path,
        text=text,
        mode=file.before.mode if as_it_was else file.mode,
        link=file.before.link if as_it_was else None,
        record=Before(given_back=True) if own else None,
        folders=() if own else file.before.folders,
    )


def _mode(file: ConfigurationFile, *, secret: bool) -> int:
    """The bits that it should have: none for others to write, with a password none for others at all."""
    if file.text is None:
        return SECRET_MODE if secret else 0o644
    return file.mode & (SECRET_MODE if secret else 0o755)


def _changes(file: ConfigurationFile, write: Write) -> Iterable[Change]:
    if write.text == file.text and write.link != file.link:
        yield Change("replace link", str(file.path), file.link, write.link)
    yield from changes_of(file, write.text, write.mode)
    if write.text == file.text and write.link == file.link and write.mode == file.mode:
        yield Change("remove", str(record_of(file.path)))


def _model(subject: Subject) -> str | None:
    """A file that says to pip or uv what the finished one will; comments and other settings do not matter here."""
    if subject.tool == "uv":
        url = subject.asked.get("default", [""])[0].replace("\\", "\\\\").replace('"', '\\"')
        return f'[[index]]\nurl = "{url}"\ndefault = true\n'
    sections = index_settings.parse_pip_conf(subject.file.path, subject.file.text) if subject.file.text else {}
    for name, words in subject.asked.items():
        section, _, option = name.partition(".")
        sections.setdefault(section, {})[option] = " ".join(words)
    return "".join(
        f"[{section}]\n" + "".join(f"{option} = {' '.join(value.split())}\n" for option, value in options.items())
        for section, options in sections.items()
    )


def _digest(text: str | None) -> str:
    return hashlib.sha256(_bytes(text) or b"").hexdigest()


def _bytes(text: str | None) -> bytes | None:
    return None if text is None else text.encode("utf-8", "surrogateescape")


def _text(content: bytes | None) -> str | None:
    return None if content is None else content.decode("utf-8", "surrogateescape")
