"""Runs git on repositories: without questions, hooks or background work; its errors with reason and fix.

A folder is somebody's, and git obeys the configuration in it. Root runs git only where nobody else can change that.
"""

from __future__ import annotations

import os
import re
import shlex
from collections.abc import Sequence
from pathlib import Path
from urllib.parse import urlsplit

from nbprovision.files import git_config, git_url
from nbprovision.machine import network
from nbprovision.machine.machine import Machine
from nbprovision.model.errors import TaskFailed
from nbprovision.system import commands, disk_space, trust
from nbprovision.system.files import read_text
from nbprovision.system.secrets import mask

_LOCAL_TIMEOUT = 600.0  # seconds for what needs no network
_SILENT_TIMES = 4  # a server may count objects for longer than it takes to answer
# Variables that lead git to files, programs and servers; others, such as GIT_DIR, would lead it to another repository.
_KEPT = ("GIT_SSL_", "GIT_SSH", "GIT_CONFIG_", "GIT_PROXY_", "GIT_HTTP_")
# Nobody can answer, hooks are for what people do, and work in the background would continue after the run.
_OPTIONS = {
    "advice.detachedHead": "false",
    "core.askPass": "",
    "core.fsmonitor": "false",
    "core.hooksPath": os.devnull,
    "fetch.recurseSubmodules": "false",
    "gc.auto": "0",
    "maintenance.auto": "false",
    "protocol.ext.allow": "never",
    "submodule.recurse": "false",
}
_MISSING_REF = re.compile(
    r"Remote branch .* not found|couldn't find remote ref|not our ref|unadvertised object", re.IGNORECASE
)
_UNKNOWN_KEY = "Host key verification failed"
_DUBIOUS = "dubious ownership"
_HELPER_MISSING = re.compile(r"'remote-(\S+)' is not a git command|remote helper '(\S+?)'", re.IGNORECASE)
# git's and ssh's words for each kind of failure of the network; the first match counts.
_RECOGNISED: tuple[tuple[str, network.Kind], ...] = (
    (r"error: 407|response 407|Proxy CONNECT", "proxy"),
    (r"error: 429|error: 503", "busy"),
    (r"error: 5\d\d", "server"),
    (r"could not read (?:Username|Password)|Authentication failed|terminal prompts disabled", "credentials"),
    (r"Access denied|Invalid username or|Permission denied \(|error: 401", "credentials"),
    (r"error: 403|forbidden", "forbidden"),
    (r"not found|error: 404|does not appear to be a git|does not exist|not exported", "missing"),
    (r"Could not resolve|Temporary failure in name|Name or service not known|unable to look up", "dns"),
    (r"No route to host|Network is unreachable", "route"),
    (r"timed out|Timeout|too slow", "silent"),
    (r"Connection refused|Failed to connect|Couldn't connect|unable to connect", "refused"),
    (r"SSL certificate|certificate verif|server certificate|peer certificate", "certificate"),
    (r"not valid: is this a git repository|protocol error", "portal"),
    (r"early EOF|disconnect|hung up|RPC failed|recv error|unexpected eof|Empty reply", "cut"),
    (r"Connection (?:was )?(?:reset|closed)", "cut"),
)  # fmt: skip


def environment(machine: Machine, folder: Path, *, ssh: bool = False) -> dict[str, str]:
    """The variables of git for one repository: it asks nothing, and waits for no server for ever."""
    seconds = network.timeout(machine.env)
    env = {
        name: value
        for name, value in machine.env.items()
        if not name.startswith("GIT_") or name.startswith(_KEPT)
        if name not in ("SSH_ASKPASS", "LANGUAGE")
    }
    env |= {
        "LC_ALL": "C",
        "GIT_TERMINAL_PROMPT": "0",
        "GCM_INTERACTIVE": "never",
        "SSH_ASKPASS_REQUIRE": "never",
        "GIT_OPTIONAL_LOCKS": "0",  # looking at a repository does not write to it
        "GIT_CEILING_DIRECTORIES": str(folder.parent),  # it is this repository, or none
        "GIT_HTTP_LOW_SPEED_LIMIT": "1",
        "GIT_HTTP_LOW_SPEED_TIME": f"{seconds:.0f}",
    }
    if ssh and env.get("GIT_SSH_VARIANT", "ssh") == "ssh":
        given = env.get("GIT_SSH_COMMAND") or _own_ssh(machine, env) or shlex.quote(env.get("GIT_SSH") or "ssh")
        env["GIT_SSH_COMMAND"] = (
            f"{given} -o BatchMode=yes -o ConnectTimeout={seconds:.0f} -o ServerAliveInterval={seconds:.0f}"
        )
        env["GIT_SSH_VARIANT"] = "ssh"
    return env


def run(
    machine: Machine,
    folder: Path,
    arguments: Sequence[str | Path],
    *,
    failure: str,
    options: Sequence[tuple[str, str]] = (),
    url: str = "",
    accept: Sequence[int] = (0,),
    cwd: Path | None = None,
) -> commands.Completed:
    """Run git, in the work tree ``folder`` unless ``cwd`` is another.

    Args:
        machine: The machine.
        folder: The work tree.
        arguments: The arguments.
        failure: The message of an error.
        options: More settings for this call and those that it starts; not secret.
        url: The URL that it may fetch from; empty for work without a network.
        accept: Exit statuses that do not count as failure.
        cwd: The working folder.

    Raises:
        NetworkFailed: the server could not be reached, or refuses.
        TaskFailed: it failed otherwise, or git is missing.
        NotTrusted: this is root's, and somebody else can change what it would run or obey.

    """
    if trust.find_program("git", dict(machine.env), "/") is None:
        raise TaskFailed(
            failure,
            cause="git: the program does not exist",
            cure="install git (the system's package, or ensure_conda_pkg: packages: [git]), or correct the PATH",
        )
    place = git_url.address(url) if url else None
    ssh = place is not None and place.scheme == "ssh"
    env = environment(machine, folder, ssh=ssh)
    if trust.applies():
        for path in _configuration(machine, ssh=ssh):
            trust.obey(path, "obey")
        for name in git_url.local_folders(url):
            trust.tree(name, "clone")
    if place is not None and not place.remote and not git_url.local_folders(url):  # git would read a device for ever
        raise TaskFailed(failure, cause=f"{url} is missing", cure="correct `url`")
    settings = [word for item in (*_OPTIONS.items(), *options) for word in ("-c", f"{item[0]}={item[1]}")]
    silence = network.timeout(machine.env) * _SILENT_TIMES if url else None
    try:
        done = commands.run(
            ["git", *settings, *arguments],
            env=env,
            cwd=cwd or folder,
            timeout=None if url else _LOCAL_TIMEOUT,
            silence=silence,
            accept=range(256),
            failure=failure,
        )
    except commands.Silent as error:
        if place is None or not place.remote:
            raise
        raise network.NetworkFailed(
            failure, "silent", network.Server("repository", url), url=url, said=error.cause.partition(":")[0]
        ) from None
    if done.status in accept:
        return done
    raise explained(failure, mask(done.errors.strip() or done.output.strip()), url, folder)


def explained(failure: str, output: str, url: str, folder: Path) -> TaskFailed:
    """An error of git with its reason and its fix."""
    # Progress is on lines that end with a carriage return.
    said = "\n".join(line.rpartition("\r")[2] for line in output.splitlines())[-2000:]
    place = git_url.address(url) if url else None
    host = place.host if place is not None else ""
    full = disk_space.explain_output(said, folder)
    if full is not None:
        return TaskFailed(failure, cause=full[0], cure=full[1])
    if _DUBIOUS in said:
        return TaskFailed(
            failure,
            cause=f"the folder is another user's, and git obeys the files in it\n{said}",
            cure="run as its owner, or if you trust the owner: ensure_git_config with name: safe.directory",
        )
    if _UNKNOWN_KEY in said:
        return TaskFailed(
            failure,
            cause=f"ssh does not know the key of {host}, and a run cannot ask whether it is right\n{said}",
            cure=f"compare `ssh-keyscan {host}` with the key that its owner publishes, and write that line into "
            "~/.ssh/known_hosts (an ensure_line before this task; on a notebook instance each restart deletes ~/.ssh)",
        )
    if _MISSING_REF.search(said):
        return TaskFailed(
            failure, cause=f"the repository has no such branch, tag or commit\n{said}", cure="correct `ref`"
        )
    helper = _HELPER_MISSING.search(said)
    if helper is not None:
        name = f"git-remote-{helper[1] or helper[2]}"
        return TaskFailed(
            failure,
            cause=f"git needs the program {name} for this URL\n{said}",
            cure=f"install it (ensure_pip_pkg: packages: [{name}]), and put its folder on the PATH",
        )
    if place is not None and not place.remote:
        return TaskFailed(failure, cause=said, cure=f"check that a git repository is at /{place.path}")
    kind = next((kind for words, kind in _RECOGNISED if re.search(words, said, re.IGNORECASE)), None) if url else None
    if kind is not None:
        return network.NetworkFailed(failure, kind, network.Server("repository", url), url=url, said=said)
    return TaskFailed(failure, cause=said, cure=f"correct what git reports; to see it again: git -C {folder} status")


def _own_ssh(machine: Machine, env: dict[str, str]) -> str:
    """``core.sshCommand`` of the user, which the variable for our options would replace."""
    if trust.applies():
        for path in _configuration(machine, ssh=True):
            trust.obey(path, "obey")
    done = commands.run(["git", "config", "--get", "core.sshCommand"], env=env, timeout=60, accept=range(256))
    return done.output.strip()


def _configuration(machine: Machine, *, ssh: bool) -> list[Path]:
    """The files of the user and of the machine that git obeys, and the files that they include."""
    home = machine.user_home
    xdg = Path(machine.env.get("XDG_CONFIG_HOME") or home / ".config") / "git"
    files = [git_config.user_config(machine.env, home), home / ".gitconfig", xdg / "config", Path("/etc/gitconfig")]
    for path in files:  # it grows
        text = read_text(path) if not trust.fault(path) else None
        if text:
            variables = git_config.list_variables(path, text, machine)
            files += [file for file in git_config.included_files(path, variables, home) if file not in files]
    return [*files, xdg / "attributes", xdg / "credentials", home / ".netrc", *([home / ".ssh"] if ssh else [])]


def host_of(url: str) -> str:
    """The host of a URL, for a message; the path of a local repository."""
    place = git_url.address(url)
    return (place.host or f"/{place.path}") if place is not None else urlsplit(url).hostname or url
