"""Checks files by every rule, drops the findings that a comment disables, and repairs some of the others."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import msgspec

from nbprovision.lint.finding import Edit, Finding, Problem, Rule, all_rules
from nbprovision.lint.subject import ASSUMED, Catalogue, Playbook, Script, is_script
from nbprovision.machine.machine import Machine
from nbprovision.model.errors import InvalidPlaybook, Position, nearest
from nbprovision.playbook.yaml_nodes import read_file_bytes
from nbprovision.system.files import write_atomically

_NOQA = re.compile(r"#\s*noqa(?P<rules>:\s*[a-z][a-z-]*(?:[,\s]+[a-z][a-z-]*)*)?\s*$")
_FROM_READING = ("invalid-playbook", "unknown-parameter", "unresolved-template", "unknown-environment")


def check(path: Path, machine: Machine, catalogue: Catalogue, extra_vars: Mapping[str, Any]) -> list[Finding]:
    """Return the findings in a file, in the order of its lines.

    Args:
        path: A playbook, or a shell script: a file with a name that ends with ``.sh``, or with ``#!`` as first bytes.
        machine: Facts of the machine that will use the file. Declarations of a playbook are added to it, so that it can
            serve one file only.
        catalogue: Every kind of task.
        extra_vars: Variables of the command line.

    Raises:
        InvalidPlaybook: the file cannot be read.

    """
    data = read_file_bytes(path, "script" if path.suffix == ".sh" else "playbook")
    findings: list[Finding] = []
    if is_script(path, data):
        script = Script(path, data, machine.platform.kind if machine.platform.because == ASSUMED else None)
        findings += _findings(script, "script")
        texts = {str(path): script.text}
    else:
        playbook = Playbook(path, machine, catalogue, extra_vars)
        findings += [*_faults(playbook), *_findings(playbook, "playbook")]
        findings = [msgspec.structs.replace(finding, position=_named(finding.position, path)) for finding in findings]
        texts = {file: playbook.text_of(file) for file in {str(path), *(finding.position.file for finding in findings)}}
    kept = [
        finding
        for finding in dict.fromkeys(findings)
        if not _is_disabled(finding, texts.get(finding.position.file, ""))
    ]
    kept += _unknown_noqa(path, texts[str(path)])
    return sorted(kept, key=lambda finding: (finding.position.file != str(path), *finding.position, finding.rule))


def _findings(subject: Playbook | Script, about: str) -> Iterator[Finding]:
    for rule in all_rules():
        if rule.about == about:
            yield from rule.findings(subject)


def fix(path: Path, findings: Iterable[Finding]) -> list[Finding]:
    """Repair the findings that have edits; every other byte stays as it was.

    Args:
        path: The file.
        findings: The findings of `check` in it.

    Returns:
        The repaired findings.

    """
    data = path.read_bytes()
    text = data.decode("utf-8", errors="surrogateescape")
    taken: list[Edit] = []
    repaired = []
    for finding in findings:
        edits = [edit for edit in finding.edits if edit not in taken]
        if finding.edits and not any(
            edit.start < other.end and other.start < edit.end for edit in edits for other in taken
        ):
            taken += edits
            repaired.append(finding)
    for edit in sorted(taken, key=lambda edit: edit.start, reverse=True):
        text = text[: edit.start] + edit.text + text[edit.end :]
    if taken:
        write_atomically(path, text.encode("utf-8", errors="surrogateescape"), mode=path.stat().st_mode & 0o7777)
    return repaired


def rule_named(name: str) -> Rule:
    """Return a rule by its name."""
    return next(rule for rule in all_rules() if rule.name == name)


def _faults(playbook: Playbook) -> Iterable[Finding]:
    start = Position(str(playbook.path), 1, 1)
    for fault in (*playbook.faults, *playbook.refused):
        rule = rule_named(fault.rule if isinstance(fault, InvalidPlaybook) else "invalid-playbook")
        yield rule.finding(Problem(fault.position or start, fault.message, fault.cure, fault.cause))


def _named(position: Position, playbook: Path) -> Position:
    """Return the position with a relative path if the playbook has one."""
    if playbook.is_absolute() or not os.path.isabs(position.file):
        return position
    return position._replace(file=os.path.relpath(position.file))


def _is_disabled(finding: Finding, text: str) -> bool:
    """Whether a comment in the line disables the finding; it cannot if a run would refuse the playbook."""
    if finding.rule in _FROM_READING:
        return False
    lines = text.splitlines()
    line = lines[finding.position.line - 1] if finding.position.line <= len(lines) else ""
    match = _NOQA.search(line)
    return match is not None and (match["rules"] is None or finding.rule in _names(match))


def _unknown_noqa(path: Path, text: str) -> Iterable[Finding]:
    names = {rule.name for rule in all_rules()}
    for number, line in enumerate(text.splitlines(), 1):
        match = _NOQA.search(line)
        for name in _names(match) if match is not None else ():
            if name not in names:
                position = Position(str(path), number, line.index(name, match.start()) + 1 if match else 1)
                message = f"unknown rule '{name}'{nearest(name, names)}"
                yield rule_named("unknown-noqa").finding(
                    Problem(position, message, "nbprovision lint --list-rules lists the rules")
                )


def _names(match: re.Match[str]) -> list[str]:
    return re.findall(r"[a-z][a-z-]*", (match["rules"] or "").lstrip(":"))
