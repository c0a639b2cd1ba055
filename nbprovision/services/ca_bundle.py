"""The user's bundle of authorities, and the settings by which programs read it.

Each setting is written by the task that owns its file: nothing here edits a file itself.
"""

from __future__ import annotations

import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from nbprovision.conda.ensure_condarc import EnsureCondarc
from nbprovision.files import git_config, ini_text
from nbprovision.files.ensure_env_var import EnsureEnvVar
from nbprovision.files.ensure_git_config import EnsureGitConfig
from nbprovision.files.ensure_ini import EnsureIni
from nbprovision.indexes.pip_cert import PipCert
from nbprovision.machine import authorities
from nbprovision.machine.machine import Machine
from nbprovision.model.errors import TaskFailed
from nbprovision.model.task import Task
from nbprovision.root import ca_file
from nbprovision.root.tools import Trouble
from nbprovision.system.files import read_text
from nbprovision.system.reading import read_bytes

# curl, OpenSSL, Python, uv and R; requests; curl; boto3 and the aws command; node.
# https://docs.openssl.org/master/man3/SSL_CTX_load_verify_locations/, https://docs.astral.sh/uv/reference/environment/,
# https://requests.readthedocs.io/en/latest/user/advanced/#ssl-cert-verification, https://curl.se/docs/sslcerts.html,
# https://docs.aws.amazon.com/cli/latest/userguide/cli-configure-envvars.html, https://nodejs.org/api/cli.html
VARIABLES = ("SSL_CERT_FILE", "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE", "AWS_CA_BUNDLE", "NODE_EXTRA_CA_CERTS")
_GIT = "http.sslCAInfo"
_AWS = ("default", "ca_bundle")


def path_of(machine: Machine) -> Path:
    """The bundle."""
    return authorities.user_bundle(machine.env, machine.user_home)


def folder_of(machine: Machine) -> Path:
    """The folder with the files that the bundle is made of, beside the public authorities."""
    return path_of(machine).with_name("ca-certificates")


def content(machine: Machine, files: dict[str, bytes]) -> bytes:
    """Return the bundle: the public authorities, then the user's, in an order that does not depend on time.

    Args:
        machine: The machine.
        files: The content of the files by name.

    Raises:
        TaskFailed: the machine has no public authorities, or a file is damaged.

    """
    public = authorities.public_bundle(machine.root)
    if public is None:
        raise TaskFailed(
            "this machine has no public certificate authorities",
            cause="the bundle replaces those of each program, so it contains the public ones too",
            cure="install the package ca-certificates",
        )
    texts = [read_bytes(public).decode("utf-8", "surrogateescape").rstrip("\n") + "\n"]
    for name, data in sorted(files.items()):
        pems = certificates(data, str(folder_of(machine) / name), "remove it, and run again")
        texts.append(f"# {name} (nbprovision)\n" + "".join(pems))
    return "".join(texts).encode("utf-8", "surrogateescape")


def certificates(data: bytes, shown: str, cure: str) -> list[str]:
    """Return the certificates of a file as PEM.

    Args:
        data: Its content.
        shown: Its path or URL, for the message.
        cure: What to do about a file that is something else.

    Raises:
        TaskFailed: it is something else; the message has nothing of its content.

    """
    try:
        return ca_file.certificates(data)
    except Trouble as trouble:
        raise TaskFailed(f"{shown} is not the certificate of an authority", cause=str(trouble), cure=cure) from None


def settings(machine: Machine, *, follow: bool) -> tuple[Task[Any], ...]:
    """The tasks that have each program read the bundle."""
    bundle = str(path_of(machine))
    variables: dict[str, str | int] = dict.fromkeys(VARIABLES, bundle)
    return (
        PipCert(bundle=bundle, present=True, follow=follow),
        EnsureCondarc(ssl_verify=bundle),
        EnsureGitConfig(name=_GIT, value=bundle, follow=follow),
        EnsureIni(path=str(_aws_config(machine)), values={_AWS[0]: {_AWS[1]: bundle}}, follow=follow),
        EnsureEnvVar(vars=variables, where="shells", follow=follow),
        EnsureEnvVar(vars=variables, where="server", follow=follow),
    )


def withdrawn(machine: Machine, *, follow: bool) -> Iterator[Task[Any]]:
    """The tasks that take back those settings that name the bundle; others stay."""
    bundle = str(path_of(machine))
    yield PipCert(bundle=bundle, present=False, follow=follow)
    yield EnsureCondarc(ssl_verify=bundle, state="absent")
    path = git_config.user_config(machine.env, machine.user_home)
    text = read_text(path)
    if text and git_config.list_variables(path, text, machine).get(str(git_config.variable_name(_GIT))) == [bundle]:
        yield EnsureGitConfig(name=_GIT, state="absent", follow=follow)
    path = _aws_config(machine)
    keys = ini_text.settings(path, read_text(path)).get(_AWS[0], {})
    if keys.get(_AWS[1]) == [bundle]:
        yield EnsureIni(path=str(path), remove=[list(_AWS) if len(keys) > 1 else _AWS[0]], follow=follow)
    statements = {"shells": f"export %s={shlex.quote(bundle)}", "server": f"os.environ['%s'] = {bundle!r}"}
    for where, statement in statements.items():
        task = EnsureEnvVar(vars=dict.fromkeys(VARIABLES, ""), where=where, state="absent", follow=follow)  # type: ignore[arg-type]
        texts = [read_text(Path(file.identity)) or "" for file in task.provides(machine)]
        names = [name for name in VARIABLES if any(statement % name in text.splitlines() for text in texts)]
        if names:
            yield EnsureEnvVar(vars=dict.fromkeys(names, ""), where=where, state="absent", follow=follow)  # type: ignore[arg-type]


def _aws_config(machine: Machine) -> Path:
    return machine.path(machine.env.get("AWS_CONFIG_FILE") or "~/.aws/config")
