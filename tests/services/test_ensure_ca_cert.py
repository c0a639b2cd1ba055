"""`ensure_ca_cert` of the user: parameters, the files that it takes, the bundle, and the settings of programs."""

from __future__ import annotations

import configparser
import hashlib
import os
import stat
import subprocess
from pathlib import Path
from typing import Any

import pytest

from nbprovision.conda.ensure_condarc import EnsureCondarc
from nbprovision.files.ensure_env_var import EnsureEnvVar
from nbprovision.files.ensure_git_config import EnsureGitConfig
from nbprovision.indexes.ensure_pip_index import EnsurePipIndex
from nbprovision.machine.machine import Machine
from nbprovision.model.errors import NotTrusted, ParameterError, TaskFailed
from nbprovision.services.ca_bundle import VARIABLES
from nbprovision.services.ensure_ca_cert import EnsureCaCert
from tests.services.certificates import authority, certificate, openssl, public
from tests.support.driver import converge, planned
from tests.support.file_server import Authority, serving_files
from tests.support.planted import USER, root_only

__all__ = ["authority", "public"]


@pytest.fixture
def bundle(home: Path, public: Authority) -> Path:
    return home / ".local/share/nbprovision/ca-bundle.pem"


@pytest.fixture(autouse=True)
def clean(machine: Machine) -> None:
    """No variable of this machine's own names authorities or proxies."""
    for name in list(machine.env):
        if "CERT" in name or "CA_BUNDLE" in name or name.lower().endswith("_proxy") or name.startswith(("PIP_", "UV_")):
            del machine.env[name]


def task(path: Path, **parameters: Any) -> EnsureCaCert:
    return EnsureCaCert(path=str(path), **parameters)


def holdings(home: Path) -> dict[str, bytes]:
    return {str(path.relative_to(home)): path.read_bytes() for path in home.rglob("*") if path.is_file()}


# ------------------------------------------------------------------------------------------------------ parameters


@pytest.mark.parametrize(
    ("parameters", "key", "text"),
    [
        ({}, "", "required"),
        ({"path": "a.pem", "url": "https://a.example/b", "sha256": "0" * 64}, "url", "together"),
        ({"path": "a.pem", "sha256": "0" * 64}, "sha256", "needs"),
        ({"url": "https://a.example/b.crt"}, "url", "sha256"),
        ({"url": "https://a.example/b.crt", "sha256": "0" * 63}, "sha256", "not a SHA-256"),
        ({"url": "http://a.example/b.crt", "sha256": "0" * 64}, "url", "not encrypted"),
        ({"url": "https://u:secret-pw@a.example/b.crt", "sha256": "0" * 64}, "url", "contains"),
        ({"path": "a.pem", "name": "../a"}, "name", "not a name"),
        ({"path": "a.pem", "name": "-a"}, "name", "not a name"),
        ({"path": "a.pem", "name": "a.2"}, "name", "not a name"),
        ({"path": "a.pem", "name": "a\n"}, "name", "not a name"),
        ({"path": "/tmp/a;b.pem"}, "path", "not a name"),
        ({"path": "/tmp/.pem"}, "path", "not a name"),
        ({"path": "a\nb.pem"}, "path", "line break"),
        ({"state": "absent"}, "name", "required"),
        ({"scope": "system", "path": "~/a.pem"}, "path", "another home"),
        ({"scope": "system", "url": "s3://bucket/a.crt", "sha256": "0" * 64}, "url", "root does not fetch"),
        (
            {"scope": "system", "name": "a", "url": "https://a.example/$(id)", "sha256": "0" * 64},
            "url",
            "root does not fetch",
        ),
        ({"scope": "system", "url": "https://a.example/a b", "sha256": "0" * 64}, "url", "."),
        ({"scope": "system", "path": "a.pem", "timeout": "1s"}, "timeout", "between"),
    ],
)
def test_refused(parameters: dict[str, Any], key: str, text: str) -> None:
    with pytest.raises(ParameterError, match=text) as caught:
        EnsureCaCert(**parameters)
    assert caught.value.key == key
    assert "secret-pw" not in caught.value.text


@pytest.mark.parametrize(
    ("path", "name"), [("/x/company.pem", "company"), ("/x/Amazon Root.CA1.crt", "Amazon-Root-CA1"), ("x", "x")]
)
def test_the_name_is_that_of_the_file(path: str, name: str) -> None:
    assert EnsureCaCert(path=path).label == name


# ---------------------------------------------------------------------------------------------------------- the file


def test_several_certificates_and_der(machine: Machine, bundle: Path, public: Authority, tmp_path: Path) -> None:
    one, two = certificate(tmp_path / "c", "one"), certificate(tmp_path / "c", "two")
    both = tmp_path / "both.pem"
    both.write_text(f"a comment\n{one.read_text()}\r\n{two.read_text()}{one.read_text()}")
    converge(task(both), machine)
    binary = tmp_path / "binary.der"
    openssl("x509", "-in", two, "-outform", "der", "-out", binary)
    converge(task(binary), machine)
    parts = bundle.read_text().split("# ")
    assert parts[0] == public.bundle.read_text()
    assert parts[1] == f"binary.crt (nbprovision)\n{two.read_text()}"
    assert parts[2] == f"both.crt (nbprovision)\n{one.read_text()}{two.read_text()}"
    assert stat.S_IMODE(bundle.stat().st_mode) == 0o644


def test_what_is_not_a_certificate_is_refused_and_not_shown(machine: Machine, bundle: Path, tmp_path: Path) -> None:
    good = certificate(tmp_path / "c", "good")
    key = good.with_suffix(".key").read_text()
    binary = openssl("pkey", "-in", good.with_suffix(".key"), "-outform", "pem", "-traditional")
    secret = key.splitlines()[1]
    openssl("pkey", "-in", good.with_suffix(".key"), "-outform", "der", "-out", tmp_path / "key.der")
    wrong = {
        "with a key": good.read_text() + key,
        "an old key": binary + good.read_text(),
        "cut": good.read_text()[:-40],
        "cut within": good.read_text()[:200] + "\n-----END CERTIFICATE-----\n",
        "the second cut": good.read_text() * 2 + good.read_text()[:-40],
        "empty": "",
        "words": "no certificate\n",
        "another block": good.read_text().replace(" CERTIFICATE", " TRUSTED CERTIFICATE"),
        "a request": openssl("req", "-new", "-key", good.with_suffix(".key"), "-subj", "/CN=x"),
    }
    contents = {name: text.encode() for name, text in wrong.items()}
    contents |= {"a key": (tmp_path / "key.der").read_bytes()}
    contents["rubbish behind"] = openssl_der(good) + b"rubbish"
    for name, data in contents.items():
        path = tmp_path / "wrong.pem"
        path.write_bytes(data)
        with pytest.raises(TaskFailed) as caught:
            planned(task(path), machine)
        assert "not the certificate of an authority" in caught.value.message, name
        assert secret not in caught.value.text
        assert "MI" not in caught.value.text
    path.write_bytes(good.read_bytes() * 2000)
    with pytest.raises(TaskFailed, match="more than 1 MiB"):
        planned(task(path), machine)
    assert not bundle.parent.exists()


def openssl_der(path: Path) -> bytes:
    return subprocess.run(["openssl", "x509", "-in", path, "-outform", "der"], capture_output=True, check=True).stdout


def test_warnings(machine: Machine, bundle: Path, tmp_path: Path) -> None:
    for name, options, text in (
        ("old", {"expired": True}, "certificate 1 of old expired on Jan  1 00:00:00 2021 GMT"),
        ("server", {"ca": False}, "certificate 1 of server is not of an authority (basicConstraints)"),
    ):
        wanted = task(certificate(tmp_path / "c", name, **options))
        converge(wanted, machine)
        warnings = wanted.plan(wanted.read(machine)).warnings
        assert any(text in warning for warning in warnings), warnings


def test_by_url(machine: Machine, bundle: Path, authority: Authority, tmp_path: Path) -> None:
    data = authority.bundle.read_bytes()
    with serving_files() as server:
        server.files["/ca.crt"] = data
        wanted = EnsureCaCert(url=f"{server.url}/ca.crt", sha256=hashlib.sha256(data).hexdigest().upper(), name="net")
        first = planned(wanted, machine)
        assert [change.action for change in first][:2] == ["download", "create"]
        assert server.requests == []
        assert not bundle.exists()
        converge(wanted, machine)
        assert bundle.read_bytes().endswith(b"# net.crt (nbprovision)\n" + data)
        count = len(server.requests)
        assert planned(wanted, machine) == ()
        assert len(server.requests) == count, "a second run asks nobody"
        server.files["/ca.crt"] = authority.key.read_bytes()
        before = bundle.read_bytes()
        other = EnsureCaCert(
            url=f"{server.url}/ca.crt", sha256=hashlib.sha256(authority.key.read_bytes()).hexdigest(), name="net"
        )
        with pytest.raises(TaskFailed, match="not the certificate of an authority"):
            converge(other, machine)
        assert bundle.read_bytes() == before, "what is fetched is judged before it is put in place"


# -------------------------------------------------------------------------------------------------------- the bundle


def test_the_bundle_is_made_again_when_either_changes(
    machine: Machine, bundle: Path, authority: Authority, tmp_path: Path
) -> None:
    wanted = task(authority.bundle)
    converge(wanted, machine)
    first = bundle.read_bytes()
    bundle.write_bytes(first + b"more\n")
    assert [change.target for change in converge(wanted, machine)] == [str(bundle)]
    assert bundle.read_bytes() == first
    system = machine.root / "etc/ssl/certs/ca-certificates.crt"
    system.write_text(certificate(tmp_path / "c", "newer").read_text())
    assert [change.target for change in converge(wanted, machine)] == [str(bundle)]
    assert (
        bundle.read_bytes() == system.read_bytes() + b"# authority.crt (nbprovision)\n" + authority.bundle.read_bytes()
    )
    authority.bundle.write_bytes(certificate(tmp_path / "c", "renewed").read_bytes())
    converge(wanted, machine)
    assert first.splitlines()[-3] not in bundle.read_bytes()


def test_without_public_authorities_nothing_is_written(
    machine: Machine, home: Path, authority: Authority, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("nbprovision.services.ca_bundle.authorities.public_bundle", lambda _root: None)
    with pytest.raises(TaskFailed, match="no public certificate authorities"):
        converge(task(authority.bundle), machine)
    assert holdings(home) == {}


def test_links_are_not_followed(machine: Machine, bundle: Path, authority: Authority, tmp_path: Path) -> None:
    mine = tmp_path / "mine"
    mine.write_text("mine\n")
    for path in (bundle, bundle.parent / "ca-certificates/authority.crt", bundle.parent / "ca-certificates/other.crt"):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.symlink_to(mine)
        with pytest.raises((TaskFailed, OSError)):
            converge(task(authority.bundle), machine)
        assert mine.read_text() == "mine\n"
        path.unlink()
    converge(task(authority.bundle), machine)


@root_only
def test_root_trusts_no_authority_of_somebody_else(machine: Machine, bundle: Path, authority: Authority) -> None:
    os.chown(authority.bundle, USER, USER)
    with pytest.raises(NotTrusted):
        converge(task(authority.bundle), machine)
    assert not bundle.exists()


# ------------------------------------------------------------------------------------------------------ the settings


def test_every_program_is_told_and_all_is_taken_back(
    machine: Machine, home: Path, bundle: Path, authority: Authority, tmp_path: Path
) -> None:
    for name, text in {
        ".config/pip/pip.conf": "[global]\ntimeout = 5\n",
        ".condarc": "# mine\nchannels:\n  - lab\n",
        ".gitconfig": "[user]\n\temail = ada@example.org\n",
        ".aws/config": "[default]\nregion = eu-west-1\n",
        ".profile": "# mine\n",
        ".bashrc": "# mine\n",
        ".jupyter/jupyter_config.py": "# mine\n",
    }.items():
        (home / name).parent.mkdir(parents=True, exist_ok=True)
        (home / name).write_text(text)
    before = holdings(home)
    first, second = task(authority.bundle, name="first"), task(certificate(tmp_path / "c", "second"))
    converge(first, machine)
    assert planned(second, machine) != ()
    assert {change.target for change in converge(second, machine)} == {
        str(bundle.parent / "ca-certificates/second.crt"),
        str(bundle),
    }
    assert planned(first, machine) == ()
    parser = configparser.ConfigParser()
    parser.read([home / ".config/pip/pip.conf", home / ".aws/config"])
    assert parser["global"]["cert"] == parser["default"]["ca_bundle"] == str(bundle)
    assert f"ssl_verify: {bundle}\n" in (home / ".condarc").read_text()
    shown = subprocess.run(
        ["git", "config", "--global", "http.sslcainfo"], env=machine.env, capture_output=True, text=True, check=True
    )
    assert shown.stdout.strip() == str(bundle)
    for name in VARIABLES:
        assert f"export {name}={bundle}\n" in (home / ".bashrc").read_text()
        assert f"export {name}={bundle}\n" in (home / ".profile").read_text()
        assert f"os.environ['{name}'] = '{bundle}'\n" in (home / ".jupyter/jupyter_config.py").read_text()
    converge(EnsureCaCert(name="second", state="absent"), machine)
    assert planned(first, machine) == (), "the other certificate keeps the settings"
    converge(EnsureCaCert(name="first", state="absent"), machine)
    assert holdings(home) == before
    assert not bundle.parent.exists()
    assert planned(EnsureCaCert(name="first", state="absent"), machine) == ()


def test_on_a_bare_home_nothing_remains(machine: Machine, home: Path, bundle: Path, authority: Authority) -> None:
    converge(task(authority.bundle), machine)
    converge(EnsureCaCert(name="authority", state="absent"), machine)
    assert {name: data for name, data in holdings(home).items() if data.strip()} == {}


def test_absent_leaves_the_users_own_settings(machine: Machine, home: Path, bundle: Path) -> None:
    for name, text in {
        ".config/pip/pip.conf": "[global]\ncert = /own.pem\n",
        ".condarc": "ssl_verify: /own.pem\n",
        ".gitconfig": "[http]\n\tsslCAInfo = /own.pem\n",
        ".aws/config": "[default]\nca_bundle = /own.pem\n",
    }.items():
        (home / name).parent.mkdir(parents=True, exist_ok=True)
        (home / name).write_text(text)
    converge(EnsureEnvVar(where="shells", name="SSL_CERT_FILE", value="/own.pem"), machine)
    before = holdings(home)
    assert converge(EnsureCaCert(name="mine", state="absent"), machine) == ()
    assert holdings(home) == before


def test_it_agrees_with_the_tasks_whose_files_it_shares(
    machine: Machine, home: Path, bundle: Path, authority: Authority
) -> None:
    wanted = task(authority.bundle)
    index = EnsurePipIndex(url="https://mirror.example/simple")
    others = (
        index,
        EnsureCondarc(channels="lab"),
        EnsureGitConfig(name="user.email", value="ada@example.org"),
        EnsureEnvVar(where="server", name="A", value="b"),
    )
    for order in ((wanted, *others), (*others, wanted)):
        for other in order:
            converge(other, machine)
        for other in order:
            assert planned(other, machine) == ()
        converge(EnsurePipIndex(state="absent"), machine)
        assert (home / ".config/pip/pip.conf").read_text() == f"[global]\ncert = {bundle}\n"
        converge(index, machine)
        converge(EnsureCaCert(name="authority", state="absent"), machine)
        assert planned(index, machine) == ()
        assert "cert" not in (home / ".config/pip/pip.conf").read_text()


def test_two_tasks_that_disagree(machine: Machine, bundle: Path, authority: Authority, public: Authority) -> None:
    def values(task: Any) -> dict[Any, Any]:
        return {(setting.file, setting.key): setting.value for setting in task.shared_values(machine)}

    one, other = values(task(authority.bundle)), values(task(public.bundle))
    assert one.keys() == other.keys()
    assert sum(one[key] != other[key] for key in one) == 1, "one name, two files"
    key = (str(machine.user_home / ".config/pip/pip.conf"), ("global", "cert"))
    assert values(EnsurePipIndex(url="https://x.example/simple", cert="/own.pem"))[key] != one[key]


def test_a_dotfile_behind_a_link(
    machine: Machine, home: Path, bundle: Path, authority: Authority, tmp_path: Path
) -> None:
    dotfile = tmp_path / "dotfiles/bashrc"
    dotfile.parent.mkdir()
    dotfile.write_text("# mine\n")
    (home / ".bashrc").symlink_to(dotfile)
    with pytest.raises(TaskFailed, match="out of its folder"):
        planned(task(authority.bundle), machine)
    converge(task(authority.bundle, follow=True), machine)
    assert "SSL_CERT_FILE" in dotfile.read_text()
    assert (home / ".bashrc").is_symlink()
