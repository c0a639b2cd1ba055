"""The packages of a lock file in the form that each engine installs without an index.

uv gets a ``pylock.toml`` with only the chosen files (https://docs.astral.sh/uv/pip/compile/): no index page and no
metadata is fetched, and its cache is the same as for any other install from that index. pip reads such files since
26.1, as an experiment, and an environment has the pip that it has. So pip gets what every pip understands: pins with
hashes, and a page with the links to the files instead of an index (``--find-links``). In both forms a package counts as
installed from an index, where ``name @ URL`` would be recorded as a direct reference (PEP 610).
"""

from __future__ import annotations

import contextlib
import html
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import msgspec

from nbprovision.indexes.index_settings import IndexSettings
from nbprovision.machine import package_files
from nbprovision.pip import pylock
from nbprovision.pip.install_settings import Options
from nbprovision.pip.pylock import LockedPackage
from nbprovision.system import secrets
from nbprovision.system.files import temporary_folder, write_atomically

if TYPE_CHECKING:
    from packaging.pylock import Package

    from nbprovision.machine.machine import Machine
    from nbprovision.pip.request import Request

# Keys of uv.toml that choose versions or files, which the lock has chosen already.
_CHOOSING = {
    "constraint-dependencies", "override-dependencies", "exclude-newer", "exclude-newer-package", "prerelease",
    "prerelease-package", "resolution", "no-binary", "no-binary-package", "only-binary", "require-hashes",
    "verify-hashes", "dependency-metadata", "torch-backend",
}  # fmt: skip


def options_for_lock(options: Options) -> Options:
    """The options without those that choose versions or files, or weaken the check of hashes."""
    document = {key: value for key, value in options.for_uv.items() if key not in _CHOOSING}
    if isinstance(document.get("pip"), dict):
        document["pip"] = {key: value for key, value in document["pip"].items() if key not in _CHOOSING}
    return msgspec.structs.replace(
        options,
        constraints=(),
        formats=(),
        releases=(),
        require_hashes=False,
        no_require_hashes=False,
        prefer_binary=False,
        uploaded_prior_to=None,
        refresh=(),
        for_uv=document,
    )


def source(url: str, archives: Mapping[str, Path], settings: IndexSettings) -> str:
    """The URL from which a file of a lock is fetched.

    Args:
        url: The URL in the lock, which has no password.
        archives: See `Machine.archives`.
        settings: The configured indexes; the user and password of one on the same server are put into the URL.
    """
    path = archives.get(url)
    if path is not None:
        return pylock.as_url(path)
    return with_credentials(url, settings)


def with_credentials(url: str, settings: IndexSettings) -> str:
    """The URL with the user and password of the configured index on its server, if one has them.

    Of several indexes on the server, the one whose path shares most with the URL counts, as with pip
    (``pip._internal.network.auth``). The engines themselves ask netrc and the keyring if no index has any.
    """
    parts = urlsplit(url)
    if parts.scheme not in ("http", "https") or "@" in parts.netloc:
        return url
    best, shared = "", -1
    for index in (settings.index_url, *settings.extra_urls, *settings.find_links):
        other = urlsplit(index or "")
        userinfo, at, server = other.netloc.rpartition("@")
        if at and (other.scheme, server.lower()) == (parts.scheme, parts.netloc.lower()):
            common = _common(other.path, parts.path)
            if common > shared:
                best, shared = userinfo, common
    if not best:
        return url
    secrets.remember_userinfo(best)
    return parts._replace(netloc=f"{best}@{parts.netloc}").geturl()


def _common(first: str, second: str) -> int:
    count = 0
    for mine, other in zip(first.split("/"), second.split("/"), strict=False):
        if mine != other:
            break
        count += 1
    return count


def record_origins(machine: Machine, request: Request) -> None:
    """Record what came from a copy on this machine (`Machine.archives`) as from its URL in the lock.

    Its hash has been checked, so it is the same. The next run, without the copy, recognises it by the URL. uv's note of
    the copy's times goes.
    """
    copied = [
        entry for entry in request.locked if any(file.url in machine.archives for file in entry.files if file.url)
    ]
    installed = request.found() if copied else {}
    for entry in copied:
        archive = entry.package.archive
        hashes = dict(digest.split(":", 1) for digest in entry.hashes)
        for distribution in installed.get(entry.name, ()):
            package_files.set_record(distribution.path, "uv_cache.json", None)
            if archive is not None:
                origin: dict[str, Any] = {"url": archive.url, "archive_info": {"hashes": hashes}}
                origin.update({"subdirectory": archive.subdirectory} if archive.subdirectory else {})
                package_files.set_record(distribution.path, "direct_url.json", msgspec.json.encode(origin))


@contextlib.contextmanager
def pylock_file(machine: Machine, request: Request, settings: IndexSettings) -> Iterator[Path]:
    """A temporary pylock.toml for uv, which only this user can read, with the files of a request."""
    import tomlkit
    from packaging.pylock import Pylock
    from packaging.version import Version

    def fetched(entry: LockedPackage) -> Package:
        return _prepared(entry, machine.archives, settings)

    content = Pylock(
        lock_version=Version("1.0"), created_by="nbprovision", packages=[fetched(entry) for entry in request.locked]
    )
    with temporary_folder(machine.cache / "locked") as folder:
        path = folder / "pylock.toml"
        write_atomically(path, tomlkit.dumps(dict(content.to_dict())), mode=0o600, durable=False)
        yield path


def _prepared(entry: LockedPackage, archives: Mapping[str, Path], settings: IndexSettings) -> Package:
    """A package of a lock for another folder: absolute paths, credentials, no condition."""
    import dataclasses

    package = entry.package
    fields: dict[str, Any] = {"marker": None, "requires_python": None, "dependencies": None, "tool": None}
    fields["attestation_identities"] = None

    def located(file: Any) -> Any:
        path = entry.local(file) if file.path else None
        url = file.url
        if url in archives:
            path = archives[url]
        elif path is not None and not path.is_file() and url:
            path = None
        if path is not None:
            return dataclasses.replace(file, path=str(path), url=None)
        return dataclasses.replace(file, url=with_credentials(url or "", settings), path=None)

    def named(file: Any) -> Any:  # the copy on this machine may have another name
        return dataclasses.replace(located(file), name=file.filename)

    fields["wheels"] = [named(wheel) for wheel in package.wheels] if package.wheels else None
    fields["sdist"] = named(package.sdist) if package.sdist is not None else None
    fields["archive"] = located(package.archive) if package.archive is not None else None
    for kind in ("directory", "vcs"):
        place = getattr(package, kind)
        if place is not None and place.path:
            place = dataclasses.replace(place, path=str(pylock.path_of(place.path, entry.base)))
        fields[kind] = place
    return dataclasses.replace(package, **fields)


@contextlib.contextmanager
def pip_requests(machine: Machine, request: Request, settings: IndexSettings) -> Iterator[list[Request]]:
    """Requests for pip: first all files with hashes, then repositories and folders, which have none.

    pip checks the hashes of all files before it installs the first. If a package has to be built, the configured
    indexes are used for what its build backend requires.
    """
    options = options_for_lock(request.options)
    hashed = [entry for entry in request.locked if entry.files]
    others = [entry for entry in request.locked if not entry.files]
    parts: list[Request] = []
    with temporary_folder(machine.cache / "locked") as folder:
        if hashed:
            page = folder / "files.html"
            text = _page(hashed, machine.archives, settings)
            write_atomically(page, text, mode=0o600, durable=False)
            own = msgspec.structs.replace(
                options,
                find_links=(*options.find_links, str(page)),
                no_index=options.no_index or not any(entry.is_built for entry in hashed),
                require_hashes=True,
            )
            lines = tuple(_line(entry, machine.archives, settings) for entry in hashed)
            parts.append(_part(request, lines, own, hashed))
        if others:
            parts.append(_part(request, tuple(entry.requirement.line for entry in others), options, others))
        yield parts


def _part(request: Request, lines: tuple[str, ...], options: Options, packages: Sequence[LockedPackage]) -> Request:
    names = {entry.name for entry in packages}
    return msgspec.structs.replace(
        request,
        lines=lines,
        locked=(),
        from_lock=True,
        dependencies=False,
        constraints=(),
        options=options,
        reinstall=tuple(name for name in request.reinstall if name in names),
    )


def _line(entry: LockedPackage, archives: Mapping[str, Path], settings: IndexSettings) -> str:
    requirement = entry.requirement
    line = requirement.line
    archive = entry.package.archive
    if archive is not None and archive.url:
        line = line.replace(archive.url, source(archive.url, archives, settings))
    return " ".join([line, *(f"--hash={digest}" for digest in entry.hashes)])


def _page(packages: Sequence[LockedPackage], archives: Mapping[str, Path], settings: IndexSettings) -> str:
    """A page with links to files (https://pip.pypa.io/en/stable/cli/pip_install/#cmdoption-f)."""
    links = []
    for entry in packages:
        package = _prepared(entry, archives, settings)
        for file in (*(package.wheels or ()), *((package.sdist,) if package.sdist is not None else ())):
            url = pylock.as_url(Path(file.path)) if file.path else file.url or ""
            links.append(f'<a href="{html.escape(url)}">{html.escape(file.filename)}</a><br>\n')
    return f"<!DOCTYPE html>\n<html><body>\n{''.join(links)}</body></html>\n"
