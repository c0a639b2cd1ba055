"""Root's part of `ensure_ca_cert` as plain functions: what it compares, writes, runs and fetches."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path
from typing import Any

import pytest

from nbprovision.root import ca_cert, ca_file, tools
from tests.services.certificates import certificate
from tests.support.file_server import make_authority, serving_files

ANCHORS = {"debian": "usr/local/share/ca-certificates", "amazon": "etc/pki/ca-trust/source/anchors"}
COMMANDS = {"debian": "usr/sbin/update-ca-certificates", "amazon": "usr/bin/update-ca-trust"}
BUNDLES = {"debian": "etc/ssl/certs/ca-certificates.crt", "amazon": "etc/pki/ca-trust/extracted/pem/tls-ca-bundle.pem"}


class System:
    """A root folder with the parts of a distribution that this is about."""

    def __init__(self, folder: Path, name: str) -> None:
        self.folder = folder
        self.anchors, self.bundle = folder / ANCHORS[name], folder / BUNDLES[name]
        command = folder / COMMANDS[name]
        for path in (self.anchors / "x", self.bundle, command):
            path.parent.mkdir(parents=True, exist_ok=True)
        command.write_text("#!/bin/sh\n")
        command.chmod(0o755)

    def update(self) -> None:
        """Do what the distribution's command does."""
        self.bundle.write_text("".join(path.read_text() for path in sorted(self.anchors.iterdir())))

    def differences(self, wanted: dict[str, Any]) -> list[str]:
        return ca_file.differences(wanted, str(self.folder))


@pytest.fixture(params=["debian", "amazon"])
def system(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> System:
    """With the functions that change the machine led into the folder."""
    made = System(tmp_path / "root", request.param)
    ran: list[list[str]] = []

    def run(argv: list[str], seconds: float, **_options: Any) -> str:
        ran.append(argv)
        made.update()
        return ""

    monkeypatch.setattr(ca_cert.tools, "below", lambda path, _root: f"{made.folder}{path}")
    monkeypatch.setattr(ca_cert.tools, "program", lambda name, root="": f"/usr/bin/{name}")
    monkeypatch.setattr(ca_cert.tools, "write", lambda path, text: (made.folder / path[1:]).write_text(text))
    monkeypatch.setattr(ca_cert.tools, "remove", lambda path: (made.folder / path[1:]).unlink(missing_ok=True))
    monkeypatch.setattr(ca_cert.tools, "must_run", run)
    return made


def wanted(path: Path | None, **others: Any) -> dict[str, Any]:
    data = b"" if path is None else path.read_bytes()
    return {
        "name": "company",
        "state": "present",
        "url": None,
        "sha256": "",
        "certificates": ca_file.certificates(data) if data else None,
        "seconds": 30,
        **others,
    }


def test_present_changed_and_absent(system: System, tmp_path: Path) -> None:
    one, two = certificate(tmp_path / "c", "one"), certificate(tmp_path / "c", "two")
    both = tmp_path / "both.pem"
    both.write_text(two.read_text() + one.read_text())
    (system.anchors / "company-2.crt").write_text(one.read_text())  # another task's, or the administrator's
    (system.anchors / "other.crt").write_text(two.read_text())
    others = {path: path.read_bytes() for path in system.anchors.iterdir()}
    assert system.differences(wanted(both)) == ["install company.crt", "install company.2.crt"]
    ca_cert.bring_about(wanted(both))
    assert system.differences(wanted(both)) == []
    assert two.read_text() in (system.anchors / "company.crt").read_text()
    assert one.read_text() in (system.anchors / "company.2.crt").read_text()
    assert system.differences(wanted(one)) == ["install company.crt", "remove company.2.crt"]
    ca_cert.bring_about(wanted(one))
    assert system.differences(wanted(one)) == []
    system.bundle.write_text("")
    assert system.differences(wanted(one)) == ["update /" + str(system.bundle.relative_to(system.folder))]
    ca_cert.bring_about(wanted(one))
    gone = wanted(None, state="absent")
    assert system.differences(gone) == ["remove company.crt"]
    ca_cert.bring_about(gone)
    assert system.differences(gone) == []
    assert {path: path.read_bytes() for path in system.anchors.iterdir()} == others


def test_without_the_file_the_name_and_the_first_line_decide(system: System, tmp_path: Path) -> None:
    one = certificate(tmp_path / "c", "one")
    digest = hashlib.sha256(one.read_bytes()).hexdigest()
    by_name, by_digest = wanted(None), wanted(None, sha256=digest)
    for order in (by_name, by_digest):
        assert system.differences(order) == ["install company.crt"]
    ca_cert.bring_about(wanted(one, sha256=digest))
    for order in (by_name, by_digest):
        assert system.differences(order) == []
    assert system.differences(wanted(None, sha256="0" * 64)) == ["install company.crt"]
    (system.anchors / "company.2.crt").write_text(one.read_text())
    assert system.differences(by_digest) == ["install company.crt"]
    (system.anchors / "company.crt").write_text(one.read_text())
    assert system.differences(by_name) == ["install company.crt"], "no file of ours"


def test_a_link_in_its_place_is_not_followed(system: System, tmp_path: Path) -> None:
    one = certificate(tmp_path / "c", "one")
    (system.anchors / "company.crt").symlink_to(one)
    with pytest.raises(tools.Trouble, match="is a link"):
        system.differences(wanted(one))


def test_a_machine_without_the_package(tmp_path: Path) -> None:
    with pytest.raises(tools.Trouble, match="ca-certificates is not installed"):
        ca_cert.differences(wanted(None), str(tmp_path))


@pytest.mark.skipif(os.geteuid() != 0 or not os.path.exists("/usr/bin/curl"), reason="needs root and curl")
def test_fetching(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """By the real curl from a real server; what is fetched has to be the wanted file."""
    authority = make_authority(tmp_path / "authority")
    place = tmp_path / "fetched"
    monkeypatch.setattr(ca_file, "_FETCHED", f"{place}-%s")
    monkeypatch.setattr(ca_cert.tools, "make_folder", lambda _path: None)
    monkeypatch.setattr(ca_cert.tools, "remove", lambda path: Path(path).unlink(missing_ok=True))
    for name in ca_file._PROXIES:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setitem(tools.ENVIRONMENT, "CURL_CA_BUNDLE", str(authority.bundle))
    data = authority.bundle.read_bytes()
    order = wanted(None, sha256=hashlib.sha256(data).hexdigest(), seconds=20)
    with serving_files(authority) as secure, serving_files() as plain:
        secure.files["/ca.crt"] = plain.files["/ca.crt"] = data
        assert ca_file._fetch({**order, "url": f"{secure.url}/ca.crt"}) == data
        with pytest.raises(tools.Trouble, match="its sha256 is another"):
            ca_file._fetch({**order, "url": f"{secure.url}/ca.crt", "sha256": "0" * 64})
        secure.redirects["/away"] = f"{plain.url}/ca.crt"
        secure.files["/large"] = b"x" * (2 << 20)
        for url in (f"{plain.url}/ca.crt", f"{secure.url}/away", f"{secure.url}/none", f"{secure.url}/large"):
            with pytest.raises(tools.Unreachable):
                ca_file._fetch({**order, "url": url})
        tools.ENVIRONMENT.pop("CURL_CA_BUNDLE")
        with pytest.raises(tools.Unreachable, match="ended with 60"):  # CURLE_PEER_FAILED_VERIFICATION
            ca_file._fetch({**order, "url": f"{secure.url}/ca.crt"})
    assert not list(tmp_path.glob("fetched*"))
