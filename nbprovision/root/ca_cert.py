"""Certificates of authorities for every program of the machine, by the distribution's own command.

Sources: update-ca-trust(8) of Amazon Linux and Fedora, update-ca-certificates(8) of Debian, which takes one certificate
from a file.
"""

from __future__ import annotations

import os
from typing import Any

from nbprovision.root import tools

HEAD = "# nbprovision: certificate %d of %d %s\n"


# Of a distribution: the folder, the command, and the file that the command makes.
SYSTEMS = (
    ("/etc/pki/ca-trust/source/anchors/", "update-ca-trust", "/etc/pki/ca-trust/extracted/pem/tls-ca-bundle.pem"),
    ("/usr/local/share/ca-certificates/", "update-ca-certificates", "/etc/ssl/certs/ca-certificates.crt"),
)


def differences(wanted: dict[str, Any], root: str) -> list[str]:
    """Say in what the machine's certificates differ.

    Args:
        wanted: ``name``, ``state``, the ``certificates``; the ``sha256`` of a file that was fetched, else no text.
        root: The folder to take for ``/``.

    """
    present, texts, bundle = installed(wanted, root), _texts(wanted), system(root)[2]
    changes = ["install %s" % name for name, text in texts.items() if present.get(name) != text]
    changes += ["remove %s" % name for name in present if name not in texts]
    trusted = tools.read(bundle, root) or ""
    if not changes and not all(text.partition("\n")[2] in trusted for text in texts.values()):
        changes = ["update %s" % bundle]
    return changes


def bring_about(wanted: dict[str, Any]) -> None:
    """Put the certificates into the distribution's folder, or take them out, and run its command.

    Raises:
        Trouble: the command fails.

    """
    texts = _texts(wanted)
    folder, command, _ = system(tools.ROOT)
    for name in installed(wanted, tools.ROOT):
        if name not in texts:
            tools.remove(folder + name)
    for name, text in texts.items():
        tools.write(folder + name, text)
    tools.must_run([tools.program(command)], wanted["seconds"])


def system(root: str) -> tuple[str, str, str]:
    """Return the distribution's way.

    Raises:
        Trouble: the package with the command is missing.

    """
    for each in SYSTEMS:
        if os.path.isdir(tools.below(each[0], root)) and tools.program(each[1], root):
            return each
    raise tools.Trouble("the package ca-certificates is not installed")


def installed(wanted: dict[str, Any], root: str) -> dict[str, str]:
    """Return the files under the task's name, with their texts."""
    texts: dict[str, str] = {}
    while True:
        name = _file(wanted, len(texts) + 1)
        text = tools.read(system(root)[0] + name, root)
        if text is None:
            return texts
        texts[name] = text


def _file(wanted: dict[str, Any], number: int) -> str:
    """Return the name of a file; a task's name has no dot, so that no file of another task matches."""
    return "%s%s.crt" % (wanted["name"], ".%d" % number if number > 1 else "")


def _texts(wanted: dict[str, Any]) -> dict[str, str]:
    """Return the files with their texts: Debian takes one certificate from each."""
    pems = wanted["certificates"] if wanted["state"] == "present" else []
    return {
        _file(wanted, number): HEAD % (number, len(pems), wanted["sha256"]) + pem for number, pem in enumerate(pems, 1)
    }
