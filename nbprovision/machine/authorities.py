"""The certificate authorities that programs trust: the machine's own, and the user's bundle of ``ensure_ca_cert``."""

from __future__ import annotations

import os
import ssl
from collections.abc import Mapping
from pathlib import Path

# Debian's, Amazon Linux's, Alpine's. OpenSSL of another distribution than this machine's would not look there.
_PUBLIC = ("etc/ssl/certs/ca-certificates.crt", "etc/pki/tls/certs/ca-bundle.crt", "etc/ssl/cert.pem")


def public_bundle(root: Path = Path("/")) -> Path | None:
    """The machine's own bundle, else that of Python's OpenSSL; None if there is neither."""
    own = ssl.get_default_verify_paths().cafile
    paths = [*(root / name for name in _PUBLIC), *([Path(own)] if own else [])]
    return next((path for path in paths if path.exists()), None)


def user_bundle(env: Mapping[str, str], user_home: Path) -> Path:
    """The bundle of ``ensure_ca_cert``, which may be missing: the public authorities, and the user's own.

    https://specifications.freedesktop.org/basedir-spec/ names the folder.
    """
    data = env.get("XDG_DATA_HOME", "")
    folder = Path(data) if os.path.isabs(data) else user_home / ".local/share"
    return folder / "nbprovision/ca-bundle.pem"
