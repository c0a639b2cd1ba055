"""``ensure_pip_index``: the indexes of pip and uv, for a user, the machine or one environment."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Iterator, Sequence
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
from nbprovision.indexes.lock_request import IndexLockRequest
from nbprovision.indexes.pip_conf import Settings
from nbprovision.machine.machine import Machine
from nbprovision.model.errors import ParameterError
from nbprovision.model.relations import OneOf, Requires
from nbprovision.model.result import Change, Plan
from nbprovision.model.task import LockRequest, Resource, Setting, Strings, as_list, parameter
from nbprovision.system import secrets
from nbprovision.system.files import remove


class Editor(Protocol):
    """The functions that `pip_conf` and `uv_toml` share, for the text of their file."""

    def matching(self, path: Path, text: str | None, settings: Settings) -> Settings:
        """Those of ``settings`` that ``text`` has."""

    def merged(self, path: Path, text: str | None, settings: Settings) -> str:
        """``text`` with ``settings``."""

    def without(self, path: Path, text: str, settings: Settings) -> str | None:
        """``text`` without ``settings``."""

    def undone(
        self, path: Path, text: str, before: str | None, ours: Sequence[Settings], *, forced: bool = False
    ) -> str | None:
        """``text`` with the settings of earlier runs reverted."""


class ToolFile(msgspec.Struct, frozen=True):
    """The file of pip or uv, with the functions that edit it, and its wanted settings."""

    editor: Editor
    file: ConfigurationFile
    settings: Settings


class IndexState(msgspec.Struct, frozen=True):
    """The state of the configuration files.

    Attributes:
        files: The files.
        volume: The persistent volume, None if everything survives a restart.
        missing: The environment, if it does not exist and no earlier task of the playbook creates it.
        warnings: Settings that overrule the files, and likely mistakes.
        token: The token of an index at CodeArtifact.
    """

    files: tuple[ToolFile, ...]
    volume: Path | None = None
    missing: Path | None = None
    warnings: tuple[str, ...] = ()
    token: TokenState | None = None


class IndexPlan(Plan, frozen=True, kw_only=True):
    """The changes and the new files; files with a future token are made when the token is known."""

    writes: tuple[Write, ...] = ()
    token: TokenState | None = None


_STRATEGIES = {"first-index": index_settings.FIRST_INDEX, "best-match": index_settings.BEST_MATCH}
_PUBLIC = ("pypi.org", "www.pypi.org", "files.pythonhosted.org", "test.pypi.org")
_HOST = re.compile(r"(\[[0-9a-fA-F:.]+\]|[A-Za-z0-9._-]+)(:\d{1,5})?")


class EnsurePipIndex(ConfigScope[IndexState], frozen=True, kw_only=True):
    """Set the package indexes of pip and uv.

    Merges into pip.conf, and for ``scope: user`` and ``scope: system`` into uv.toml. Other settings and comments stay.
    uv has no configuration file for an environment, so nbprovision gives pip's settings to uv there; a uv that you
    start by hand uses the user's. The previous content is kept beside each file (``pip.conf.nbprovision-before``,
    0600), and ``state: absent`` restores it.

    A file with a password becomes 0600. It is never written to the volume that survives restarts, into an environment
    (which is cloned, packed and shared), or for the whole machine (whose users could not read it). A link is replaced
    by a file with the content of its target, which does not change.

    With ``codeartifact`` the machine's `aws` command gives the token. Each run after half its lifetime renews it, which
    does not count as a change. If AWS does not answer, a valid token is kept, and a note says so.
    """

    relations = (
        OneOf(("url", "codeartifact"), required=False),
        Requires("state", "present", ("url", "codeartifact")),
        *ConfigScope.relations,
    )
    actions = {
        "create": "pip.conf or uv.toml",
        "change": "its settings",
        OTHER_PASSWORD: "the password of an index, which is never shown",
        "change mode": "its permissions",
        "replace link": "a link by a file",
        "remove": "a file without any settings, or the record of its previous content",
    }
    examples = """
    - name: Your own index, which uv searches before pypi.org
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

    - name: Restore the previous configuration
      ensure_pip_index:
        state: absent
    """

    url: Annotated[
        str | None,
        parameter("The index (PEP 503): an http, https or file URL, mostly ending in /simple. Required for `present`."),
    ] = None
    codeartifact: Annotated[
        CodeArtifact | None,
        parameter("A repository of AWS CodeArtifact instead of `url`: `domain`, `repository`; `owner` and `region` "
                  "if not this instance's; `duration` of a token (`15m` to `12h`, the default); `endpoint` "
                  "of a VPC, the URL before `/pypi/`."),
    ] = None  # fmt: skip
    extra_urls: Annotated[
        Strings | None,
        parameter("Further indexes. uv searches them before `url`; pip takes the best version of all."),
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
        parameter("With several indexes, uv takes the first that has a name (`first-index`, uv's default) or, like "
                  "pip, the best version of all (`best-match`)."),
    ] = None  # fmt: skip
    state: Annotated[Literal["present", "absent"], parameter("`absent` restores the previous content.")] = "present"

    def check(self) -> None:
        """Check the parameters without looking at the machine."""
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
                raise ParameterError(key, f"`{key}` is empty or contains a line break or control character")
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
        """The index, named by its pip.conf."""
        return frozenset({Resource("index", str(self._pip_conf(machine)))})

    def shared_values(self, machine: Machine) -> Iterator[Setting]:
        """The options of pip.conf."""
        for name, words in self._pip_settings(machine).items() if self.state == "present" else ():
            section, _, option = name.partition(".")
            yield Setting(str(self._pip_conf(machine)), (section, option), "\n".join(words))

    def lock_requests(self, machine: Machine) -> Iterator[LockRequest]:
        """The files as the task leaves them; a CodeArtifact repository counts as this machine's files have it."""
        if self.state == "absent" or self.codeartifact is not None:
            return
        path = self._pip_conf(machine)
        files = {path: _model(ToolFile(pip_conf, read_configured(path), self._pip_settings(machine)))}
        yield IndexLockRequest(prefix=path.parent, files=files)

    def ages(self, machine: Machine) -> float | None:
        """The seconds until a token is renewed, after half its lifetime."""
        if self.codeartifact is None or self.state == "absent":
            return None
        return seconds_left(self._pip_conf(machine))

    def read(self, machine: Machine) -> IndexState:
        """Read the files, and the settings that would overrule them."""
        path = self._pip_conf(machine)
        if self.codeartifact is not None and self.state == "present":
            token = codeartifact.read_token(self.codeartifact, machine, path)
            return msgspec.structs.replace(self._at(token.url).read(machine), token=token)
        files = [ToolFile(pip_conf, read_configured(path), self._pip_settings(machine))]
        if self.scope != "env":
            files.append(ToolFile(uv_toml, read_configured(self._uv_toml(machine)), self._uv_settings(machine)))
        warnings = [*self._doubts(machine), *self._overruled(machine, files)] if self.state == "present" else []
        return IndexState(tuple(files), machine.platform.volume, self.missing(machine), tuple(warnings))

    def plan(self, state: IndexState) -> IndexPlan:
        """Compare the files with the parameters.

        Raises:
            TaskFailed: the environment does not exist, a password would be written to the persistent volume, or this
                user may not write the file.
        """
        present = self.state == "present"
        if present:
            refuse_missing(state.missing)
        changes: list[Change] = []
        writes: list[Write] = []
        for tool_file in state.files:
            write = self._ensured(tool_file) if present else _restored(tool_file)
            if write is None:
                continue
            file = tool_file.file
            if present and self._secret:
                refuse_persistent(
                    file,
                    file.place / file.path.name,
                    state.volume,
                    what="an index with a password",
                    cure="leave the password out of `url` and set PIP_INDEX_URL and UV_DEFAULT_INDEX for the session "
                    "instead",
                )
            self.refuse_unwritable(file)
            writes.append(write)
            changes += _changes(file, write)
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
            TaskFailed: the environment does not exist, or a file cannot be written.
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
        """The same task, with a URL that contains the token."""
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
        """``find_links`` with absolute folders, and as URLs where pip would split its list at a space."""
        return [
            link if "://" in link else index_settings.as_url(str(machine.path(link)))
            for link in as_list(self.find_links)
        ]

    def _pip_settings(self, machine: Machine) -> Settings:
        settings = {
            "global.index-url": [self.url] if self.url else [],
            "global.extra-index-url": as_list(self.extra_urls),
            "global.trusted-host": as_list(self.trusted_hosts),
            "global.cert": [str(machine.path(self.cert))] if self.cert else [],
            "global.find-links": self._links(machine),
        }
        if self.scope == "env" and self.index_strategy:  # pip ignores this section; for other scopes uv.toml has it
            settings[f"{index_settings.OWN_SECTION}.index-strategy"] = [_STRATEGIES[self.index_strategy]]
        return {name: words for name, words in settings.items() if words}

    def _uv_settings(self, machine: Machine) -> Settings:
        """The settings of uv.toml, which has no ``cert``: nbprovision gives it to uv by SSL_CERT_FILE."""
        settings = {
            "default": [self.url] if self.url else [],
            "extra": as_list(self.extra_urls),
            "index-strategy": [_STRATEGIES[self.index_strategy]] if self.index_strategy else [],
            "allow-insecure-host": as_list(self.trusted_hosts),
            "find-links": self._links(machine),
        }
        return {name: words for name, words in settings.items() if words}

    def _ensured(self, tool_file: ToolFile) -> Write | None:
        """The new file, or None if it has the wanted settings."""
        file, settings, editor = tool_file.file, tool_file.settings, tool_file.editor
        before = _record_in_force(file)
        to_record = {name: [index_settings.place(word) for word in words] for name, words in settings.items()}
        newest = before is None or (before.asked[-1:] == (to_record,) and _digest(file.text) not in before.written[:-1])
        in_place = newest and editor.matching(file.path, file.text, settings) == settings
        without_us = file.text if in_place else _without_us(file, editor, forced=True)
        text = file.text if in_place else editor.merged(file.path, without_us, settings)
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
        """Warnings about allowed settings that are mostly mistakes."""
        for key, url in self._urls():
            parts = urlsplit(url)
            if (
                parts.scheme == "http"
                and index_url.secret_of(url)
                and parts.hostname not in ("localhost", "127.0.0.1", "::1")
            ):
                yield f"the password of {secrets.mask(url)} is sent unencrypted: use https"
            path = parts.path.rstrip("/")
            if key != "find_links" and (path.endswith("/pypi") or (parts.hostname in _PUBLIC and path == "")):
                yield f"{secrets.mask(url)} looks like a site instead of its index: indexes mostly end in /simple"
        public = [url for url in as_list(self.extra_urls) if urlsplit(url).hostname in _PUBLIC]
        if public and urlsplit(self.url or "").hostname not in _PUBLIC:
            yield (
                f"anyone can publish on {public[0]}, and uv searches extra_urls before url: it would take a package "
                "there instead of yours of the same name; make it `url`, and your index one of `extra_urls`"
            )
        if self.cert and not machine.path(self.cert).exists():
            yield f"{machine.path(self.cert)} (`cert`) does not exist: pip fails until it does"

    def _overruled(self, machine: Machine, files: Sequence[ToolFile]) -> Iterable[str]:
        """Warnings about settings of pip and uv that are stronger than those of the written files."""
        settings = index_settings.effective(
            machine.env,
            machine.user_home,
            self.prefix(machine),
            root=machine.root,
            instead={tool_file.file.path: _model(tool_file) for tool_file in files},
        )
        for name, field in (
            ("index-url", "index_url"),
            ("extra-index-url", "extra_urls"),
            ("trusted-host", "trusted_hosts"),
            ("cert", "cert"),
            ("find-links", "find_links"),
        ):
            words = files[0].settings.get(f"global.{name}", [])
            value = getattr(settings, field)
            origin = settings.origins.get(field, index_settings.UV_TOML)
            # The value comes neither from a pip.conf nor from a variable of pip's.
            ignored = origin.startswith("UV_") or index_settings.UV_TOML in origin
            if words and (ignored or words != ([value] if isinstance(value, str) else list(value))):
                because = "PIP_CONFIG_FILE makes it read other files" if ignored else f"{origin} is stronger"
                yield f"pip does not use `{name}` of {files[0].file.path}: {because}"
            elif words and field == "index_url" and self.scope != "env":
                yield from settings.disagreements
        if settings.no_index:
            yield f"pip uses no index: {settings.origins['no_index']} sets `no-index`"
        no_index = index_settings.of_uv(machine.env, machine.user_home, machine.root).get("no_index")
        if no_index and self.scope != "env":
            yield f"uv, started by hand, uses no index: {no_index.origin} sets `no-index`"


def _record_in_force(file: ConfigurationFile) -> Before | None:
    """The record, if the file still has settings of ours."""
    return file.before if file.before and not file.before.given_back and file.text is not None else None


def _without_us(file: ConfigurationFile, editor: Editor, *, forced: bool) -> str | None:
    """The text that the file would have without our changes; for ``forced`` see `pip_conf.undone`."""
    before = _record_in_force(file)
    if before is None or file.text is None:
        return file.text
    if _digest(file.text) in before.written:
        return _text(before.content)
    return editor.undone(file.path, file.text, _text(before.content), before.asked, forced=forced)


def _restored(tool_file: ToolFile) -> Write | None:
    """The new file for ``state: absent``, or None if it has none of the settings."""
    file, settings, editor = tool_file.file, tool_file.settings, tool_file.editor
    if file.before is None:
        present = editor.matching(file.path, file.text, settings)
        if file.text is None or not present:
            return None
        return Write(path=file.path, text=editor.without(file.path, file.text, present), mode=file.mode)
    if file.before.given_back:
        return None
    text = _without_us(file, editor, forced=False)
    as_it_was = text == _text(file.before.content) and file.text is not None
    own = bool(editor.matching(file.path, text, settings))
    return Write(
        path=file.path,
        text=text,
        mode=file.before.mode if as_it_was else file.mode,
        link=file.before.link if as_it_was else None,
        record=Before(given_back=True) if own else None,
        folders=() if own else file.before.folders,
    )


def _mode(file: ConfigurationFile, *, secret: bool) -> int:
    """The right permissions: others may not write, and may not read a file with a password."""
    if file.text is None:
        return SECRET_MODE if secret else 0o644
    return file.mode & (SECRET_MODE if secret else 0o755)


def _changes(file: ConfigurationFile, write: Write) -> Iterable[Change]:
    if write.text == file.text and write.link != file.link:
        yield Change("replace link", str(file.path), file.link, write.link)
    yield from changes_of(file, write.text, write.mode)
    if write.text == file.text and write.link == file.link and write.mode == file.mode:
        yield Change("remove", str(record_of(file.path)))


def _model(tool_file: ToolFile) -> str | None:
    """A text with the same index settings as the finished file; comments and other settings do not matter here."""
    file = tool_file.file
    if tool_file.editor is uv_toml:
        url = tool_file.settings.get("default", [""])[0].replace("\\", "\\\\").replace('"', '\\"')
        return f'[[index]]\nurl = "{url}"\ndefault = true\n'
    sections = index_settings.parse_pip_conf(file.path, file.text) if file.text else {}
    for name, words in tool_file.settings.items():
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
