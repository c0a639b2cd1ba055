"""Findings of lint in the forms that other services show beside the code."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote

from nbprovision import __version__
from nbprovision.lint.finding import Finding, all_rules

SARIF_SCHEMA = "https://json.schemastore.org/sarif-2.1.0.json"


def github(findings: Iterable[Finding]) -> Iterator[str]:
    """Each finding as a line by which GitHub Actions annotates a change.

    Source: https://docs.github.com/en/actions/reference/workflows-and-actions/workflow-commands
    """
    for finding in findings:
        where = finding.position
        fields = {"file": where.file, "line": where.line, "col": where.column, "title": finding.rule}
        properties = ",".join(f"{name}={_escaped(str(value), ':,')}" for name, value in fields.items())
        yield f"::{finding.severity} {properties}::{_escaped(_text(finding))}"


def sarif(findings: Iterable[Finding]) -> dict[str, Any]:
    """The findings as a document of SARIF 2.1.0, which code scanning of GitHub, GitLab and others reads.

    Source: https://docs.oasis-open.org/sarif/sarif/v2.1.0/sarif-v2.1.0.html
    """
    rules = [
        {
            "id": rule.name,
            "shortDescription": {"text": rule.finds},
            "fullDescription": {"text": rule.why},
            "defaultConfiguration": {"level": rule.severity},
        }
        for rule in all_rules()
    ]
    driver = {"name": "nbprovision lint", "semanticVersion": __version__, "rules": rules}
    run = {
        "tool": {"driver": driver},
        "columnKind": "unicodeCodePoints",
        "results": [_result(finding) for finding in findings],
    }
    return {"$schema": SARIF_SCHEMA, "version": "2.1.0", "runs": [run]}


def _result(finding: Finding) -> dict[str, Any]:
    where = finding.position
    region = {"startLine": max(where.line, 1), "startColumn": max(where.column, 1)}
    location = {"physicalLocation": {"artifactLocation": {"uri": _uri(where.file)}, "region": region}}
    return {
        "ruleId": finding.rule,
        "level": finding.severity,
        "message": {"text": _text(finding)},
        "locations": [location],
    }


def _text(finding: Finding) -> str:
    """The lines of a finding: message, reason and fix."""
    lines = (("", finding.message), ("why: ", finding.why), ("fix: ", finding.cure))
    return "\n".join(f"{label}{text}" for label, text in lines if text)


def _uri(path: str) -> str:
    return Path(path).as_uri() if os.path.isabs(path) else quote(path)


def _escaped(text: str, more: str = "") -> str:
    for character in f"%\r\n{more}":
        text = text.replace(character, f"%{ord(character):02X}")
    return text
