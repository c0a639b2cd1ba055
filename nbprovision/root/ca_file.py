"""A file of certificates: what may stand in it, and how root fetches it; `ca_cert` does the rest."""

from __future__ import annotations

import hashlib
import os
import re
import ssl
from typing import Any

from nbprovision.root import ca_cert, tools

MOST = 1 << 20  # bytes of a file of certificates
_BLOCK = re.compile(rb"-----BEGIN CERTIFICATE-----\s[A-Za-z0-9+/=\s]+-----END CERTIFICATE-----")
_BEGIN = re.compile(rb"-----BEGIN [A-Z0-9 #]+-----")
_PROXIES = ("https_proxy", "HTTPS_PROXY", "all_proxy", "ALL_PROXY", "no_proxy", "NO_PROXY")
_FETCHED = "/run/nbprovision/ca-certificate-%s"

_HEADED = re.compile(r"# nbprovision: certificate (\d+) of (\d+) ([0-9a-f]{64})?\n")


def differences(wanted: dict[str, Any], root: str) -> list[str]:
    """Say in what the machine's certificates differ, also where ``certificates`` is None, as they are not known.

    Then the digest of their file has to be the wanted one, and without a digest any certificates of ours will do.
    """
    if wanted["certificates"] is None and wanted["state"] == "present":
        present = ca_cert.installed(wanted, root)
        matches = [_HEADED.match(text) for text in present.values()]
        origins = {match.groups()[1:] if match is not None else ("", "") for match in matches}
        if len(origins) != 1 or not all(
            count == str(len(present)) and (digest or "").startswith(wanted["sha256"]) for count, digest in origins
        ):
            return ["install %s.crt" % wanted["name"]]
        wanted = dict(wanted, sha256=matches[0][3] or "", certificates=[t.partition("\n")[2] for t in present.values()])  # type: ignore[index]
    return ca_cert.differences(wanted, root)


def bring_about(wanted: dict[str, Any]) -> None:
    """Fetch the file, and do with its certificates as `ca_cert.bring_about`.

    Raises:
        Unreachable: the file cannot be fetched.
        Trouble: it is not the expected one, or the distribution's command fails.

    """
    ca_cert.bring_about(dict(wanted, certificates=certificates(_fetch(wanted))))


def certificates(data: bytes) -> list[str]:
    """Return the certificates of a file, PEM or DER, each as PEM in one spelling.

    Raises:
        Trouble: it holds something else, such as a private key; the message has nothing of its content.

    """
    if b"PRIVATE KEY-----" in data:
        raise tools.Trouble("it contains a private key, which belongs to nobody but its owner")
    blocks = _BLOCK.findall(data)
    if len(data) > MOST or len(blocks) != len(_BEGIN.findall(data)):
        raise tools.Trouble("it contains something other than certificates")
    pems = []
    try:
        for der in [ssl.PEM_cert_to_DER_cert(block.decode("ascii")) for block in blocks] or [data]:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
            context.load_verify_locations(cadata=der)
            if context.cert_store_stats()["x509"] != 1:
                raise ValueError
            pems.append(ssl.DER_cert_to_PEM_cert(der))
    except (ValueError, ssl.SSLError):
        raise tools.Trouble("it is not a certificate, neither in PEM nor in DER") from None
    return list(dict.fromkeys(pems))


def _fetch(wanted: dict[str, Any]) -> bytes:
    """Return the file behind the URL, with the wanted digest."""
    path = _FETCHED % wanted["name"]
    tools.make_folder(os.path.dirname(path))
    tools.remove(path)
    curl = tools.program("curl")
    if not curl:
        raise tools.Trouble("curl is missing here")
    proxies = {name: os.environ[name] for name in _PROXIES if name in os.environ}
    argv = [
        curl, "-q", "--silent", "--show-error", "--fail", "--location", "--max-redirs", "5",
        "--proto", "=https", "--max-filesize", str(MOST), "--max-time", str(wanted["seconds"]),
        "--output", path, "--", wanted["url"],
    ]  # fmt: skip
    try:
        tools.must_run(argv, wanted["seconds"] + 5, extra=proxies)
        with open(path, "rb") as stream:  # in a folder that only root can change
            data = stream.read(MOST + 1)
    except (tools.Trouble, OSError) as trouble:
        raise tools.Unreachable("%s cannot be fetched: %s" % (wanted["url"], trouble)) from None
    finally:
        tools.remove(path)
    if hashlib.sha256(data).hexdigest() != wanted["sha256"]:
        raise tools.Trouble("%s is not the expected file: its sha256 is another" % wanted["url"])
    return data
