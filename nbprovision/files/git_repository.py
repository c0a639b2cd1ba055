"""A clone as it is: its remote, its commit, its branch, local work in it, and what the task left there."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Literal, NamedTuple

import msgspec

from nbprovision.files import git_command, git_config, git_url
from nbprovision.machine import network
from nbprovision.machine.machine import Machine
from nbprovision.model.errors import TaskFailed
from nbprovision.system import trust
from nbprovision.system.files import explained, read_text
from nbprovision.system.secrets import mask

LEFT = "nbprovision.left"  # the branch (or -) and the commit that the task has checked out last
UPDATING = "nbprovision-updating"  # in the repository's own folder, while the task changes the work tree
_HASH = re.compile(r"[0-9a-f]{7,64}")
_PATH = re.compile(r"(?m)^\s*path\s*=\s*(.+?)\s*$")

Variables = dict[str, list[str]]
Relation = Literal["", "same", "ahead", "behind", "diverged", "unknown", "gone", "offline"]


class Repository(msgspec.Struct, frozen=True, kw_only=True):
    """The state of a path.

    Attributes:
        path: The work tree.
        exists: Whether a clone is there; otherwise nothing, or an empty folder.
        remote: The name of the remote with the task's URL.
        head: The commit that is checked out; empty for none.
        branch: The branch that is checked out; empty for none.
        changed: How many files of git's are changed.
        ahead: Whether the branch has commits that its remote branch has not.
        left: The branch and the commit that the task has left, if it has.
        default: The branch that a clone without `ref` has checked out.
        wanted: The commit that `ref` names, as far as this clone knows.
        wanted_is_branch: Whether `ref` is a branch, as far as this clone knows.
        relation: Of the checked-out branch to that of the remote, if the remote was asked.
        remote_commit: The commit of the remote branch.
        unset: Variables of the clone's configuration that have other values.
        missing_submodules: Their paths.
        interrupted: An update by this task was killed.

    """

    path: Path
    exists: bool = True
    remote: str = ""
    head: str = ""
    branch: str = ""
    changed: int = 0
    ahead: bool = False
    left: tuple[str, str] | None = None
    default: str = ""
    wanted: str = ""
    wanted_is_branch: bool = False
    relation: Relation = ""
    remote_commit: str = ""
    unset: tuple[str, ...] = ()
    missing_submodules: tuple[str, ...] = ()
    interrupted: bool = False

    @property
    def untouched(self) -> bool:
        """Whether it stands as the task left it, without work of the user's that a checkout could hide or lose."""
        if self.left is None or self.changed or self.branch != self.left[0]:
            return False
        return self.head == self.left[1] or bool(self.branch and not self.ahead)


class Request(NamedTuple):
    """What to look for in a clone."""

    url: str
    ref: str | None
    settings: Variables
    submodules: bool
    update: bool


def git_folder(path: Path) -> Path:
    """The folder with the configuration of a clone; that of a missing one, too."""
    config = git_config.repository_config(path) if (path / ".git").exists() else None
    return config.parent if config is not None else path / ".git"


def look(machine: Machine, path: Path, request: Request) -> Repository:
    """Read the state of a path; without `update`, no network is needed.

    Raises:
        TaskFailed: something else is there, it is a clone of another repository, or git cannot read it.
        NotTrusted: this is root's, and somebody else can change the clone.

    """
    if _is_free(path):
        return Repository(path=path, exists=False)
    trust.tree(path, "run git in")
    trust.tree(git_folder(path), "run git in")
    git = Clone(machine, path, request.url, request.settings)
    variables = git.variables()
    remote = _remote(path, variables, request)
    status = git.status()
    default = git.output("symbolic-ref", "--quiet", "--short", f"refs/remotes/{remote}/HEAD", accept=range(256))
    wanted, is_branch = git.resolve(request.ref, remote) if request.ref else ("", False)
    state = Repository(
        path=path,
        remote=remote,
        head=status.head,
        branch=status.branch,
        changed=status.changed,
        ahead=status.ahead,
        left=_left(variables),
        default=default.removeprefix(f"{remote}/"),
        wanted=wanted,
        wanted_is_branch=is_branch,
        unset=tuple(name for name, values in request.settings.items() if variables.get(name) != values),
        missing_submodules=tuple(git.missing_submodules()) if request.submodules and status.head else (),
        interrupted=os.path.lexists(git_folder(path) / UPDATING),
    )
    branch = request.ref if request.ref and is_branch else state.default
    if request.update and branch and state.branch == branch and (not request.ref or is_branch):
        relation, commit = git.compare(remote, branch, state)
        state = msgspec.structs.replace(state, relation=relation, remote_commit=commit)
    return state


class Status(NamedTuple):
    """A work tree: see `Repository`."""

    head: str
    branch: str
    changed: int
    ahead: bool


class Clone:
    """git in one clone.

    Args:
        machine: The machine.
        path: The work tree.
        url: The URL that the task names.
        settings: Variables for each call that reaches the server.

    """

    def __init__(self, machine: Machine, path: Path, url: str, settings: Variables) -> None:
        self.machine, self.path, self.url = machine, path, url
        self.options = [(name, value) for name, values in settings.items() for value in values]

    def run(self, *words: str, failure: str = "", network: bool = False, accept: range = range(1)) -> str:
        """Run git in the clone, and return its output."""
        done = git_command.run(
            self.machine,
            self.path,
            words,
            failure=failure or f"git cannot read {self.path}",
            options=self.options if network else (),
            url=self.url if network else "",
            accept=accept,
        )
        return done.output

    def output(self, *words: str, accept: range = range(1)) -> str:
        """The output of a command of one line; empty if it failed with an accepted status."""
        return self.run(*words, accept=accept).strip()

    def variables(self) -> Variables:
        """The clone's own configuration, by names as git lists them."""
        variables: Variables = {}
        for item in self.run("config", "--local", "--null", "--list").split("\0")[:-1]:
            name, has_value, value = item.partition("\n")
            variables.setdefault(name, []).append(value if has_value else "true")
        return variables

    def status(self) -> Status:
        """Branch, commit and changes; git's own files alone, without those that it does not know."""
        head = branch = ""
        changed, ahead = 0, False
        text = self.run(
            "status", "--porcelain=v2", "--branch", "--untracked-files=no", "--ignore-submodules=untracked", "-z"
        )
        for line in text.split("\0"):
            if line.startswith("# branch.oid "):
                head = line[13:].replace("(initial)", "")
            elif line.startswith("# branch.head "):
                branch = line[14:].replace("(detached)", "")
            elif line.startswith("# branch.ab "):
                ahead = not line.startswith("# branch.ab +0 ")
            elif line[:2] in ("1 ", "2 ", "u "):
                changed += 1
        if branch and head and not self._has_upstream(text):
            ahead = True  # nobody else has its commits
        return Status(head, branch, changed, ahead)

    @staticmethod
    def _has_upstream(status: str) -> bool:
        return "# branch.ab " in status

    def resolve(self, ref: str, remote: str) -> tuple[str, bool]:
        """The commit of a ref as far as the clone knows it, and whether it is a branch."""
        names = [f"refs/remotes/{remote}/{ref}", f"refs/tags/{ref}", *([ref] if _HASH.fullmatch(ref) else [])]
        for name in names:
            commit = self.commit(name)
            if commit:
                return commit, name.startswith("refs/remotes/")
        return "", False

    def commit(self, name: str) -> str:
        """The commit that a name means; empty for none."""
        return self.output(
            "rev-parse", "--quiet", "--verify", "--end-of-options", f"{name}^{{commit}}", accept=range(256)
        )

    def contains(self, descendant: str, ancestor: str) -> bool:
        """Whether one commit is an ancestor of another, or the same."""
        done = git_command.run(
            self.machine,
            self.path,
            ["merge-base", "--is-ancestor", ancestor, descendant],
            failure=f"git cannot read {self.path}",
            accept=(0, 1),
        )
        return done.status == 0

    def compare(self, remote: str, branch: str, state: Repository) -> tuple[Relation, str]:
        """Ask the remote for its commit of a branch, which changes nothing, and compare the checked-out one with it."""
        name = f"refs/heads/{branch}"

        def ask(_offline: bool) -> str:
            return self.run(
                "ls-remote", remote, name, network=True, failure=f"cannot ask {mask(self.url)} for {branch}"
            )

        try:
            answer = network.retry(self.machine, ask, cached=False)
        except network.NetworkFailed as error:
            if not error.absent:
                raise
            self.machine.note(f"{error.reason}: {self.path} was not updated")
            return "offline", ""
        commit = next((line.split("\t")[0] for line in answer.splitlines() if line.endswith(f"\t{name}")), "")
        if not commit:
            return "gone", ""
        if commit == state.head:
            return "same", commit
        if not self.commit(commit):
            return ("diverged" if state.ahead else "unknown"), commit
        if self.contains(state.head, commit):
            return "ahead", commit
        return ("behind" if self.contains(commit, state.head) else "diverged"), commit

    def missing_submodules(self) -> Iterator[str]:
        """Paths of missing submodules, at any depth."""
        if not (self.path / ".gitmodules").is_file():
            return
        for line in self.run("submodule", "status", "--recursive").splitlines():
            if line.startswith("-"):
                yield line[1:].split(" ", 1)[1]


def submodule_paths(path: Path) -> list[str]:
    """The paths of a work tree's submodules, as its file of them has them."""
    return _PATH.findall(read_text(path / ".gitmodules") or "")


def _is_free(path: Path) -> bool:
    """Whether nothing is at a path that a clone would replace.

    Raises:
        TaskFailed: something other than a clone is there.

    """
    cure = "choose another `path`, or move it away"
    if path.is_symlink():
        raise TaskFailed(
            f"{path} is a link",
            cause="whoever created the link would decide which folder is changed",
            cure=f"write path: {os.path.realpath(path)}",
        )
    if not os.path.lexists(path):
        return True
    if not path.is_dir():
        raise TaskFailed(f"{path} is not a folder", cause="it is kept, as nothing shows what it is for", cure=cure)
    with explained(f"cannot read {path}"), os.scandir(path) as entries:
        empty = next(entries, None) is None
    if empty:
        return True
    if not os.path.lexists(path / ".git"):
        raise TaskFailed(
            f"{path} is not a git repository", cause="it is a folder with other files, which are kept", cure=cure
        )
    if git_config.repository_config(path) is None:
        raise TaskFailed(
            f"{path} is not a whole git repository",
            cause="its .git has no HEAD, as after a clone by another program that was killed",
            cure=f"see what is in it, and remove it: rm -r {path}",
        )
    return False


def _remote(path: Path, variables: Variables, request: Request) -> str:
    """The name of the remote with the task's URL, in whatever form it is written there."""
    wanted = git_url.address(request.url)
    urls = {
        name.removeprefix("remote.").removesuffix(".url"): values[0]
        for name, values in variables.items()
        if name.startswith("remote.") and name.endswith(".url")
    }
    for name in sorted(urls, key=lambda name: name != "origin"):
        place = git_url.address(urls[name])
        if urls[name] == request.url or (place is not None and wanted is not None and place.same(wanted)):
            return name
    listed = (
        ", ".join(f"{name}: {git_url.without_credentials(url)}" for name, url in urls.items()) or "it has no remote"
    )
    raise TaskFailed(
        f"{path} is another repository than {request.url}",
        cause=f"{listed}; local work may be in it, so it is kept",
        cure=f"correct `url` or `path`; if the repository has moved: git -C {path} remote set-url origin {request.url}",
    )


def _left(variables: Variables) -> tuple[str, str] | None:
    branch, _, commit = (variables.get(LEFT) or [""])[-1].partition(" ")
    return (branch.removeprefix("-"), commit) if commit else None
