"""``nbprovision lifecycle render``: prints a lifecycle script."""

from __future__ import annotations

import argparse
import hashlib
import os
import sys
from collections.abc import Iterable, Mapping
from pathlib import Path

from packaging.version import Version

from nbprovision.bundle import archive
from nbprovision.catalogue import Catalogue
from nbprovision.cli.lint import assumed, show
from nbprovision.lifecycle.payload import Payload
from nbprovision.lifecycle.playbook import examine, handed_on, root_calls
from nbprovision.lifecycle.render import (
    BOOTSTRAP_NAME,
    BUNDLE,
    DEFAULT_SECONDS,
    PLATFORMS,
    VERSION,
    ScriptRequest,
    bootstrap,
    render,
    validated,
)
from nbprovision.lifecycle.root_part import RootPart, root_part
from nbprovision.lifecycle.secret_text import refuse_in_option, refuse_in_variables
from nbprovision.lifecycle.wheels import check_folder, check_wheel, coverage_warning
from nbprovision.machine.machine import Machine
from nbprovision.model.errors import UsageError
from nbprovision.playbook.extra_vars import ExtraVars
from nbprovision.report.colour import print_message
from nbprovision.services.root_task import RootTask
from nbprovision.system.files import write_atomically

_DEFAULT_PATH = object()  # --user-playbook without a path
_PLACES = (
    "playbook",
    "bundle",
    "ring",
    "tool",
    "sha256",
    "assets",
    "assets_url",
    "index_url",
    "home",
    "user_playbook",
    "on_finish",
    "root_tasks",
)
# Passed to the script as they are.
_SCRIPT_OPTIONS = (
    "playbook", "ring", "tool", "sha256", "assets_url", "index_url", "on_create", "strict", "platform", "home",
    "user_playbook", "on_finish",
)  # fmt: skip
# Passed to the run that the script starts.
_RUN_OPTIONS = ((("-e", "--extra-vars"), "KEY=VALUE"), (("-t", "--tags"), "A,B"), (("--skip-tags",), "A,B"))


_RUN_FLAGS = ("locked", "frozen")


def configure(parser: argparse.ArgumentParser) -> None:
    """Add ``render`` and its options."""
    actions = parser.add_subparsers(dest="action", required=True, metavar="ACTION")
    purpose = "print a lifecycle script that brings a notebook to the state of a playbook, in time"
    command = actions.add_parser("render", help=purpose, description=purpose[0].upper() + purpose[1:] + ".")
    add = command.add_argument
    add(
        "playbook",
        nargs="?",
        metavar="PLAYBOOK",
        help="an absolute path on the notebook's volume, or s3://BUCKET/KEY; required without --bundle and --ring",
    )
    add(
        "--bundle",
        metavar="FILE",
        help="a bundle in place of PLAYBOOK and --tool, for a notebook without a network: an absolute path on the "
        "volume, or s3://BUCKET/KEY.tar",
    )
    add(
        "--ring",
        metavar="URL",
        help="s3://BUCKET/PREFIX/rings/RING in place of PLAYBOOK: at each start, the script runs the release that this "
        "ring of a fleet points to",
    )
    add("--inline", action="store_true", help="PLAYBOOK is a local file; its content goes into the script")
    add(
        "--root-tasks",
        metavar="FILE",
        help="a local copy of PLAYBOOK, for root's part of the script (with --inline it is PLAYBOOK)",
    )
    add(
        "--tool",
        metavar="SOURCE",
        help="the source of nbprovision, required without --index-url or --bundle: the path of a folder of wheels or a "
        "wheel on the volume, s3://BUCKET/PREFIX of wheels, https://HOST/WHEEL or "
        f"pypi:nbprovision=={VERSION} with --sha256, or a requirement for --index-url",
    )
    add("--sha256", metavar="H", help="the sha256 of that wheel, which the script checks before it installs anything")
    add(
        "--assets",
        metavar="DIR",
        help=f"write {BOOTSTRAP_NAME}, which the script gets by its sha256, into this folder here; upload it beside "
        "the wheels, or to --assets-url",
    )
    add(
        "--assets-url",
        metavar="URL",
        help="the script's source of that file: a folder on the volume, s3://BUCKET/PREFIX or https://HOST/FOLDER "
        "(default: the folder of the wheels, or the wheel itself)",
    )
    add(
        "--index-url",
        metavar="URL",
        help="the package index, instead of pypi.org; without --tool, this version of nbprovision comes from it",
    )
    add("--on-create", action="store_true", help="a script for the instance's creation instead of every start")
    add("--strict", action="store_true", help="a failure keeps the notebook from starting")
    add(
        "--deadline",
        type=int,
        default=DEFAULT_SECONDS,
        metavar="SECONDS",
        help="time limit for everything (default: %(default)s; the platform's limit is 300)",
    )
    add("--platform", choices=tuple(PLATFORMS), default="notebook-instance", help="default: %(default)s")
    add("--home", metavar="DIR", help="the tool's home folder there, if not the usual one")
    add(
        "--env",
        action="append",
        default=[],
        metavar="NAME=VALUE",
        help="an environment variable for the tool, such as a proxy; not a secret, because others can read the script",
    )
    add(
        "--user-playbook",
        nargs="?",
        const=_DEFAULT_PATH,
        metavar="PATH",
        help="run the notebook user's own playbook after this one, in the same budget "
        f"(default path: {PLATFORMS['notebook-instance'].user_playbook})",
    )
    add(
        "--on-finish",
        metavar="COMMAND",
        help="a shell command that runs as the user at the end of background work; it gets "
        "NBPROVISION_STATUS and NBPROVISION_RESULT",
    )
    for names, metavar in _RUN_OPTIONS:
        add(*names, action="append", default=[], metavar=metavar, help=f"as for `nbprovision run {names[-1]}`")
    for name in _RUN_FLAGS:
        add(f"--{name}", action="store_true", help=f"as for `nbprovision run --{name}`; the playbook is on the volume")


def execute(options: argparse.Namespace) -> int:
    """Print the script.

    Returns:
        0.

    Raises:
        UsageError: an option is invalid, or the platform would refuse the script.

    """
    for name in _PLACES:
        if getattr(options, name) == "":
            shown = "PLAYBOOK" if name == "playbook" else f"--{name.replace('_', '-')}"
            raise UsageError(
                f"{shown} is empty",
                cause="such as from a variable of the shell that is not set",
                cure="write a value, or leave the option out",
            )
    options.playbook = _place(options)
    flags = [f"--{name}" for name in _RUN_FLAGS if getattr(options, name)]
    if flags and (options.inline or options.ring or "://" in options.playbook):
        raise UsageError(
            f"{flags[0]} is for a playbook on the notebook's volume",
            cause="a release with a lock is locked already"
            if options.ring
            else "the lock is a folder beside the playbook, and the script brings the playbook alone",
            cure="leave it out"
            if options.ring
            else "put the playbook and its lock on the volume, and give the playbook's absolute path there",
        )
    environment = _environment(options.env)
    for option in ("index_url", "tool", "assets_url", "on_finish"):
        refuse_in_option(f"--{option.replace('_', '-')}", getattr(options, option) or "")
    handed = handed_on(options.extra_vars)
    refuse_in_variables(handed.variables)
    _warn(handed.notes)
    payload = _examine(options, environment, handed.variables) if options.inline else Payload({})
    root = _root(options, environment, handed.variables)
    if options.user_playbook is _DEFAULT_PATH:
        options.user_playbook = PLATFORMS[options.platform].user_playbook
    run_options = {"--extra-vars": handed.arguments, "--tags": options.tags, "--skip-tags": options.skip_tags}
    wanted = validated(
        ScriptRequest(
            **{name: getattr(options, name) for name in _SCRIPT_OPTIONS},
            payload=payload.files,
            executable=payload.executable,
            seconds=options.deadline,
            environment=environment,
            root=root,
            options=[
                *flags,
                *(word for option, values in run_options.items() for value in values for word in (option, value)),
            ],
        )
    )
    _check_wheels(wanted.tool, options.assets)
    script = render(wanted)
    if root is not None and root.name in script:
        if options.assets is None:
            raise UsageError(
                f"root's part ({', '.join(root.kinds)}) does not fit into the script, and --assets is missing",
                cause=f"the script fetches {root.name} from {options.assets_url}",
                cure="write --assets DIR; upload what is then in that folder",
            )
        write_atomically(Path(options.assets) / root.name, root.content, mode=0o644)
    if options.assets is not None:
        write_atomically(Path(options.assets) / BOOTSTRAP_NAME, bootstrap(), mode=0o644)
    sys.stdout.write(script)
    return 0


def _place(options: argparse.Namespace) -> str:
    """The place of the playbook or of the bundle; empty for a ring.

    Raises:
        UsageError: none is given, or more than one.

    """
    if options.ring is not None:
        _refuse_beside_ring(options)
        return ""
    if options.bundle is not None:
        _refuse_beside_bundle(options)
        _check_bundle(options.bundle)
        return str(options.bundle)
    if options.playbook is None:
        raise UsageError(
            "nbprovision lifecycle render needs PLAYBOOK, --bundle or --ring",
            cure="`nbprovision lifecycle render --help` lists the options",
        )
    if options.playbook.endswith(BUNDLE):
        raise UsageError(
            f"PLAYBOOK {options.playbook} is a bundle",
            cause=f"its name ends with {BUNDLE}",
            cure=f"write --bundle {options.playbook}",
        )
    return str(options.playbook)


def _refuse_beside_ring(options: argparse.Namespace) -> None:
    """Refuse what a ring's releases replace.

    Raises:
        UsageError: an option has no meaning with a ring.

    """
    for given, shown in (
        (options.playbook, f"PLAYBOOK {options.playbook}"),
        (options.bundle, f"--bundle {options.bundle}"),
        (options.inline, "--inline"),
    ):
        if given:
            raise UsageError(
                f"{shown} cannot be combined with --ring",
                cause="each release of a ring has its own playbook",
                cure="leave it out; --root-tasks takes a local copy of a playbook, for root's part",
            )


def _refuse_beside_bundle(options: argparse.Namespace) -> None:
    """Refuse what a bundle replaces.

    Raises:
        UsageError: the bundle has another name, or an option has no meaning with it.

    """
    if not options.bundle.endswith(BUNDLE):
        raise UsageError(
            f"--bundle {options.bundle} is not the name of a bundle",
            cause=f"the script knows a bundle by the end of its name, {BUNDLE}",
            cure=f"rename the file, and write --bundle {options.bundle}{BUNDLE}",
        )
    if options.playbook is not None:
        raise UsageError(
            f"--bundle {options.bundle} has a playbook already, and PLAYBOOK {options.playbook} is another one",
            cure="leave one of them out; --root-tasks takes a local copy of the playbook, for root's part",
        )
    for name, why in (
        ("inline", "the playbook comes with the bundle"),
        ("locked", "a bundle is always locked"),
        ("frozen", "a bundle is always locked"),
    ):
        if getattr(options, name):
            raise UsageError(f"--{name} has no meaning with --bundle", cause=why, cure="leave it out")


def _check_bundle(place: str) -> None:
    """Check a bundle that exists on this machine at the same path.

    Raises:
        UsageError: it is damaged, or was made by another version.

    """
    path = Path(place)
    if not path.is_absolute() or not path.is_file():
        return
    try:
        bundle = archive.read(path)
    except (archive.Damaged, OSError) as error:
        raise UsageError(
            f"--bundle {place} cannot be used: {error}", cure="make it again: nbprovision bundle PLAYBOOK -o FILE"
        ) from None
    wanted = hashlib.sha256(bootstrap()).hexdigest()
    if archive.BOOTSTRAP not in bundle.members or bundle.members[archive.BOOTSTRAP].sha256 != wanted:
        raise UsageError(
            f"--bundle {place} was made by another version of nbprovision",
            cause=f"the script runs the bundle's {archive.BOOTSTRAP}, and that is not the one of {VERSION}",
            cure="make it again with this version, or render the script with the version that made it",
        )


def _environment(settings: Iterable[str]) -> dict[str, str]:
    environment = {}
    for setting in settings:
        name, equals, value = setting.partition("=")
        if not equals:
            raise UsageError(
                f"--env {setting}: takes NAME=VALUE", cause="the = is missing", cure=f"write --env {setting}=VALUE"
            )
        environment[name] = value
        refuse_in_option("--env", value, name)
    return environment


def _examine(options: argparse.Namespace, environment: Mapping[str, str], variables: ExtraVars) -> Payload:
    """The playbook with its files, after all checks that need no run.

    The script starts the run with few variables (`env -i`), and with those of ``--env``.
    """
    machine, tags, skip_tags = _there(options, environment)
    examined = examine(Path(options.playbook), machine, Catalogue(), variables, tags=tags, skip_tags=skip_tags)
    show(examined.warnings, sys.stderr)
    _warn(examined.notes)
    return examined.payload


def _there(options: argparse.Namespace, environment: Mapping[str, str]) -> tuple[Machine, list[str], list[str]]:
    """The machine of the script, and the tags to run and to skip there."""
    env = {"PATH": "/usr/local/bin:/usr/bin:/bin", "LANG": "C.UTF-8", **environment}
    tags, skip_tags = (
        [tag.strip() for word in words for tag in word.split(",")] for words in (options.tags, options.skip_tags)
    )
    return assumed(options.platform, env, Path("/")), tags, skip_tags


def _root(options: argparse.Namespace, environment: Mapping[str, str], variables: ExtraVars) -> RootPart | None:
    """Root's part, of the playbook that is here.

    Raises:
        UsageError: there are two playbooks.
        InvalidPlaybook: it has faults.

    """
    if options.inline and options.root_tasks is not None:
        raise UsageError(
            "--root-tasks goes with a playbook on the machine or in a bucket",
            cause="with --inline, root's part is made of PLAYBOOK itself",
            cure="leave one of them out",
        )
    local = options.playbook if options.inline else options.root_tasks
    if local is None:
        return None
    machine, tags, skip_tags = _there(options, environment)
    calls = root_calls(Path(local), machine, Catalogue(), variables, tags=tags, skip_tags=skip_tags)
    if calls and options.on_create:
        _warn(["root_tasks are left out: what root sets up is gone after the first stop; render them for every start"])
        return None
    return root_part(call for call in calls if not (isinstance(call.task, RootTask) and call.task.of_users(machine)))


def _check_wheels(tool: str | None, assets: str | None) -> None:
    """Check the wheels that exist on this machine; those of the notebook may be missing here.

    Raises:
        UsageError: they are damaged, or not the version that the script needs.
    """
    version = Version(VERSION)
    if tool is not None and os.path.isabs(tool) and os.path.exists(tool):
        if os.path.isdir(tool):
            _warn([coverage_warning(check_folder(Path(tool), version))])
        elif tool.endswith(".whl"):
            check_wheel(Path(tool))
        else:
            raise UsageError(
                f"--tool {tool} is neither a folder nor a wheel",
                cause="it is another kind of file",
                cure=f"name a folder of wheels, or the wheel of nbprovision {version}",
            )
    if assets is None:
        return
    if "://" in assets or (os.path.exists(assets) and not os.path.isdir(assets)):
        raise UsageError(
            f"--assets {assets} is not a folder here",
            cause=f"{BOOTSTRAP_NAME} is written into it when the script is rendered",
            cure="write a folder of this machine; --assets-url names the script's source of the file",
        )
    if any(Path(assets).glob("nbprovision-*.whl")):
        _warn([coverage_warning(check_folder(Path(assets), version, "--assets"), "--assets")])


def _warn(notes: Iterable[str]) -> None:
    for note in filter(None, notes):
        print_message(f"warning: {note}")
