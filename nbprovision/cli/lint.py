"""``nbprovision lint``: finds mistakes in playbooks and lifecycle scripts without running them."""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any, TextIO, get_args

from nbprovision.catalogue import Catalogue
from nbprovision.conda.specs import Unchecked
from nbprovision.lint.check import check, fix
from nbprovision.lint.finding import Finding, all_rules
from nbprovision.lint.formats import github, sarif
from nbprovision.lint.subject import ASSUMED
from nbprovision.machine.environments import CondaFacts
from nbprovision.machine.machine import Machine
from nbprovision.machine.platform import Platform, PlatformKind
from nbprovision.model.errors import UsageError, explained
from nbprovision.playbook.extra_vars import ExtraVars, parse_extra_vars
from nbprovision.report.colour import RED, YELLOW, painted, print_message, shown
from nbprovision.system.context import current
from nbprovision.system.secrets import mask

_ANACONDA = "/home/ec2-user/anaconda3"
# For each kind: the user's home, the folder that survives a restart, and the conda of its image.
_PLACES: dict[PlatformKind, tuple[str | None, str | None, str | None]] = {
    "notebook-instance": ("/home/ec2-user", "/home/ec2-user/SageMaker", _ANACONDA),
    "studio": ("/home/sagemaker-user", "/home/sagemaker-user", "/opt/conda"),
    "studio-lab": ("/home/studio-lab-user", "/home/studio-lab-user", None),
    "other": (None, None, None),
}
# Environments in the current image of a notebook instance (notebook-al2023-v1):
# https://docs.aws.amazon.com/sagemaker/latest/dg/nbi-jl.html
_IMAGE_ENVIRONMENTS = ("JupyterSystemEnv", "R", "python3", "pytorch")


class _ImageConda(CondaFacts):
    """The conda of a machine that is not this one, with the environments and the server of its platform's image."""

    def listed_prefixes(self) -> Iterator[tuple[str, Path]]:
        yield from super().listed_prefixes()
        if self.platform.kind == "notebook-instance":
            yield from ((name, Path(_ANACONDA, "envs", name)) for name in _IMAGE_ENVIRONMENTS)
        elif self.platform.provided is not None:
            yield "base", self.platform.provided

    @property
    def server(self) -> Path | None:
        return self.platform.provided if self.platform.kind == "studio" else super().server


class _Assumed(Machine):
    """A machine that is not this one."""

    @cached_property
    def conda(self) -> CondaFacts:
        return _ImageConda(self.env, self.user_home, self.home, self.platform, self.root, self.expected)


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the options of ``lint``."""
    add = parser.add_argument
    add("files", nargs="*", metavar="PLAYBOOK", help="playbooks; shell scripts are checked as lifecycle scripts")
    add("--fix", action="store_true", help="repair mistakes that can be repaired without changing the meaning")
    add("--strict", action="store_true", help="exit status 2 if there are warnings")
    add(
        "--format",
        choices=("text", "json", "github", "sarif"),
        default="text",
        help="json: one document on standard output; github: annotations in GitHub Actions; sarif: for code scanning",
    )
    add("--platform", choices=get_args(PlatformKind), help="the target machine; default: this one")
    add("-e", "--extra-vars", action="append", default=[], metavar="KEY=VALUE|@FILE", help="set variables, as for run")
    add("--list-rules", action="store_true", help="print the rules, and exit")


def execute(options: argparse.Namespace) -> int:
    """Check each file.

    Returns:
        0 for no findings or only warnings, 2 for warnings with ``--strict``, 4 for errors.

    """
    if options.list_rules:
        _list_rules(options.format)
        return 0
    if not options.files:
        raise UsageError("nbprovision lint needs PLAYBOOK", cure="write: nbprovision lint PLAYBOOK...")
    extra_vars = parse_extra_vars(options.extra_vars)
    findings: list[Finding] = []
    fixed: list[Finding] = []
    for file in dict.fromkeys(options.files):
        of_file, fixed_in_file = _check(Path(file), options, extra_vars)
        findings += of_file
        fixed += fixed_in_file
    if options.format == "json":
        document = {
            "findings": [_as_json(finding, fixed=False) for finding in findings]
            + [_as_json(finding, fixed=True) for finding in fixed],
            "counts": {"error": _count(findings, "error"), "warning": _count(findings, "warning"), "fixed": len(fixed)},
        }
        sys.stdout.write(mask(json.dumps(document, indent=2)) + "\n")
    elif options.format == "sarif":
        sys.stdout.write(mask(json.dumps(sarif(findings), indent=2)) + "\n")
    elif options.format == "github":
        sys.stdout.writelines(shown(mask(f"{line}\n")) for line in github(findings))
    else:
        show(findings, sys.stdout)
        _sum_up(findings, fixed, len(options.files))
    _note_unchecked(current(Unchecked))
    if _count(findings, "error"):
        return 4
    return 2 if findings and options.strict else 0


def _note_unchecked(unchecked: Unchecked) -> None:
    """Say once, on standard error, that match specs were not checked."""
    if unchecked.texts:
        count = len(unchecked.texts)
        specs = "a match spec was" if count == 1 else f"{count} match specs were"
        why = f"py-rattler, which parses them, cannot be loaded: {unchecked.cause}"
        cure = "check the playbook on a machine that has py-rattler, or run: pip install --force-reinstall py-rattler"
        print_message(f"note: {explained(f'{specs} not checked', why, cure)}")


def _check(path: Path, options: argparse.Namespace, extra_vars: ExtraVars) -> tuple[list[Finding], list[Finding]]:
    """The findings in a file, and those that were fixed."""
    findings = check(path, _machine(options.platform), Catalogue(), extra_vars)
    fixed: list[Finding] = []
    # A fix may uncover more findings, such as faults in a line that was not YAML.
    while options.fix and (
        of_pass := fix(
            Path(os.path.realpath(path)), [finding for finding in findings if finding.position.file == str(path)]
        )
    ):
        fixed += of_pass
        findings = check(path, _machine(options.platform), Catalogue(), extra_vars)
    return findings, fixed


def _machine(kind: PlatformKind | None) -> Machine:
    """This machine, or an assumed machine of another platform."""
    machine = Machine()
    return assumed(kind, machine.env, machine.root) if kind not in (None, machine.platform.kind) else machine


def assumed(kind: PlatformKind, env: Mapping[str, str], root: Path) -> Machine:
    """A machine of which only the platform is known, and so the content of its image."""
    home, volume, provided = _PLACES[kind]
    machine = _Assumed({**env, **({"HOME": home} if home else {})}, root=root)
    machine.platform = Platform(kind, ASSUMED, Path(volume) if volume else None, Path(provided) if provided else None)
    return machine


def show(findings: Iterable[Finding], stream: TextIO) -> None:
    """Print findings for people: position, message and rule in one line; cause and fix below."""
    for finding in findings:
        word = painted(finding.severity, RED if finding.severity == "error" else YELLOW, stream)
        message = f"{finding.message} [{finding.rule}]"
        stream.write(shown(f"{word}: {explained(message, finding.why, finding.cure, finding.position)}\n"))


def _sum_up(findings: Sequence[Finding], fixed: Sequence[Finding], files: int) -> None:
    for finding in fixed:
        sys.stdout.write(shown(f"fixed: {finding.position}: {finding.message} [{finding.rule}]\n"))
    errors, warnings = _count(findings, "error"), _count(findings, "warning")
    fixable = sum(1 for finding in findings if finding.edits)
    more = f", {fixable} of them by --fix" if fixable else ""
    sys.stdout.write(f"lint : files={files} errors={errors} warnings={warnings} fixed={len(fixed)}{more}\n")


def _list_rules(form: str) -> None:
    rules = [
        {"rule": rule.name} | {name: getattr(rule, name) for name in ("severity", "about", "finds", "why", "fixes")}
        for rule in all_rules()
    ]
    if form == "json":
        sys.stdout.write(json.dumps(rules, indent=2) + "\n")
        return
    for rule in rules:
        fixes = " (--fix)" if rule["fixes"] else ""
        sys.stdout.write(f"{rule['rule']}  {rule['severity']}{fixes}\n  {rule['finds']}\n  {rule['why']}\n")


def _as_json(finding: Finding, *, fixed: bool) -> dict[str, Any]:
    return {
        **{name: getattr(finding, name) for name in ("rule", "severity")},
        **{name: getattr(finding.position, name) for name in ("file", "line", "column")},
        **{name: getattr(finding, name) for name in ("message", "why", "cure")},
        "fixable": bool(finding.edits),
        "fixed": fixed,
    }


def _count(findings: Sequence[Finding], severity: str) -> int:
    return sum(1 for finding in findings if finding.severity == severity)
