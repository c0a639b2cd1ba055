"""Certificates by the real openssl, and a machine that trusts one public authority."""

from __future__ import annotations

import datetime as dt
import subprocess
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from nbprovision.machine.machine import Machine
from tests.support.file_server import Authority, make_authority

KEYS = (["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256"], ["-newkey", "rsa:2048"])


def openssl(*words: str | Path) -> str:
    """Run openssl and return its output."""
    done = subprocess.run(["openssl", *map(str, words)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def certificate(folder: Path, name: str, *, expired: bool = False, ca: bool = True, rsa: bool = False) -> Path:
    """Make a certificate that signs itself, with its key beside it."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{name}.pem"
    openssl(
        "req", "-x509", *KEYS[rsa], "-nodes", "-subj", f"/CN={name}",
        "-addext", f"basicConstraints=critical,CA:{'TRUE' if ca else 'FALSE'}", "-keyout", folder / f"{name}.key", "-out", path, "-days", "30",
    )  # fmt: skip
    if expired:  # openssl makes none
        key = serialization.load_pem_private_key((folder / f"{name}.key").read_bytes(), None)
        assert isinstance(key, ec.EllipticCurvePrivateKey)
        made = x509.load_pem_x509_certificate(path.read_bytes())
        builder = x509.CertificateBuilder(made.issuer, made.subject, key.public_key(), made.serial_number)
        builder = builder.not_valid_before(dt.datetime(2020, 1, 1, tzinfo=dt.timezone.utc)).not_valid_after(
            dt.datetime(2021, 1, 1, tzinfo=dt.timezone.utc)
        )
        builder = builder.add_extension(x509.BasicConstraints(ca=ca, path_length=None), critical=True)
        path.write_bytes(builder.sign(key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM))
    return path


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    """The company's authority, and a server's certificate by it."""
    return make_authority(tmp_path / "company")


@pytest.fixture
def public(machine: Machine, tmp_path: Path) -> Authority:
    """A public authority, which is all of those of the machine."""
    made = make_authority(tmp_path / "public")
    path = machine.root / "etc/ssl/certs/ca-certificates.crt"
    path.parent.mkdir(parents=True)
    path.write_bytes(made.bundle.read_bytes())
    return made
