"""``ensure_git_repo``: a clone of a git repository, in which people work."""

from __future__ import annotations

import re
from collections.abc import Iterable
from pathlib import Path
from typing import Annotated, ClassVar, Literal

import msgspec

from nbprovision.files import git_command, git_repair, git_url
from nbprovision.files.file_work import FileTask, check_path, check_text
from nbprovision.files.git_repository import (
    LEFT,
    UPDATING,
    Clone,
    Repository,
    Request,
    Variables,
    git_folder,
    look,
    submodule_paths,
)
from nbprovision.machine import network
from nbprovision.machine.machine import Machine
from nbprovision.model.errors import ParameterError, TaskFailed
from nbprovision.model.result import Change, Plan
from nbprovision.model.task import DAY, parameter
from nbprovision.system.files import explained, make_folder, move_into_place, temporary_folder

# Names of branches and tags, and numbers of commits (https://git-scm.com/docs/git-check-ref-format).
_REF = re.compile(r"(?!-|/|\.)(?!.*(?:\.\.|//|@\{|/\.|\.lock(?:/|$)))[^\x00-\x20\x7f~^:?*\[\\]+(?<![/.])")
_COMMIT = re.compile(r"[0-9a-f]{40}|[0-9a-f]{64}")
_PERHAPS_COMMIT = re.compile(r"[0-9a-f]{7,64}")


class EnsureGitRepo(FileTask[Repository], frozen=True, kw_only=True):
    """Clone a git repository, and keep the clone without ever touching local work in it.

    The clone is made beside `path` and renamed when it is complete. A folder that is not a clone of `url` is refused
    and kept; https and ssh URLs of the same repository count as the same. With `update: none` an existing clone needs
    no network. Another `ref` is checked out only if the clone stands as this task left it: with changed files, with
    local commits, or with another branch checked out it stays, and the task warns. Hooks are not run.
    """

    actions: ClassVar[dict[str, str]] = {
        "clone": "a new clone",
        "configure": "the credential helper of the clone",
        "checkout": "another branch, tag or commit",
        "update": "the branch, to the newest commit of the remote one",
        "fetch submodules": "missing submodules",
        "repair": "a clone whose update was killed",
    }
    examples: ClassVar[str] = """
- name: The team's notebooks, updated once a day
  ensure_git_repo:
    url: https://github.com/acme/models.git
    path: project/models
    update: ff
- name: One version of a library, without its history
  ensure_git_repo:
    url: https://github.com/acme/models.git
    path: project/models-1.0
    ref: v1.0
    depth: 1
- name: A repository of AWS CodeCommit
  ensure_git_repo:
    url: https://git-codecommit.eu-west-1.amazonaws.com/v1/repos/fraud
    path: project/fraud
    credential_helper: "!aws codecommit credential-helper $@"
"""
    habits: ClassVar[dict[str, str]] = {
        **dict.fromkeys(("repo", "repository", "name", "src"), "write url:"),
        **dict.fromkeys(("dest", "directory", "folder"), "write path:"),
        **dict.fromkeys(("version", "branch", "tag", "commit", "revision"), "write ref:"),
        "force": "remove it; local work is never overwritten",
        "clone": "remove it; a missing clone is made",
        "recursive": "write submodules: true",
        "track_submodules": "remove it; submodules have the commits that the repository names",
        **dict.fromkeys(("accept_hostkey", "accept_newhostkey"), "write the server's key into ~/.ssh/known_hosts"),
        **dict.fromkeys(("key_file", "ssh_opts"), "write it into ~/.ssh/config"),
        "executable": "remove it; git is found on the PATH",
        "remote": "remove it; the remote is origin",
        **dict.fromkeys(
            ("bare", "reference", "refspec", "separate_git_dir", "single_branch", "umask", "archive", "verify_commit"),
            "remove it; for such a clone, use an ensure_command with `creates`",
        ),
    }

    url: Annotated[str, parameter("The repository: a URL of https or ssh, of CodeCommit, or a `file://` URL.")]
    path: Annotated[str, parameter("The folder of the clone.", extra={"path": True})]
    ref: Annotated[str | None, parameter("A branch, a tag or a commit. Default: the repository's default branch.")] = (
        None
    )
    depth: Annotated[
        Annotated[int, msgspec.Meta(ge=1, le=1_000_000)] | None,
        parameter("Clone only this many commits of the history, and no other branch."),
    ] = None
    submodules: Annotated[bool, parameter("Fetch the submodules as well, at any depth.")] = False
    update: Annotated[
        Literal["none", "ff"],
        parameter(
            "`none`: an existing clone is not updated. `ff`: once a day (see `refresh_every`) the branch is moved "
            "forward to the newest commit of the remote branch, unless there is local work."
        ),
    ] = "none"
    credential_helper: Annotated[
        str | None,
        parameter(
            "A credential helper of git for the server of `url`, used for the clone and written into its configuration."
        ),
    ] = None

    def check(self) -> None:
        """Check the parameters without looking at the machine."""
        check_text(self, "url", "ref", "credential_helper")
        check_path("path", self.path)
        git_url.check("url", self.url)
        if self.ref is not None and (not _REF.fullmatch(self.ref) or self.ref in ("HEAD", "@")):
            cure = (
                "leave `ref` out for the default branch"
                if self.ref in ("HEAD", "@")
                else "write main, v1.0 or a commit"
            )
            raise ParameterError("ref", f"'{self.ref[:60]}' is not a branch, tag or commit", cure=cure)
        if self.ref is not None and self.ref.startswith(("refs/", "origin/")):
            raise ParameterError(
                "ref", f"'{self.ref[:60]}' is a full name", cure=f"write the short one: {self.ref.rpartition('/')[2]}"
            )
        if self.credential_helper is not None:
            git_url.check_helper("credential_helper", self.credential_helper)
            if not self.url.startswith(("https://", "http://")):
                raise ParameterError(
                    "credential_helper",
                    "`credential_helper` needs a URL of https",
                    cause="git asks helpers for users and passwords, which other URLs do not use",
                    cure="write an https URL, or leave `credential_helper` out",
                )

    # ---------------------------------------------------------------------------------- its relations to other tasks

    def target(self, machine: Machine) -> Path:
        """The folder."""
        return machine.path(self.path)

    def weight(self, machine: Machine) -> Literal[1, 2]:
        """A clone may take long."""
        return 1 if machine.path(self.path).exists() else 2

    def ages(self, machine: Machine) -> float | None:
        """A day with `update: ff`: there may be a newer commit tomorrow."""
        return DAY if self.update == "ff" and self.refresh_every is None else None

    def witnesses(self, machine: Machine) -> Iterable[Path]:
        """The configuration and the head of the clone; not its files, which people change."""
        path = machine.path(self.path)
        own = path / ".git"
        yield own
        yield git_folder(path) / "config"
        if own.is_dir():
            yield own / "HEAD"
        yield git_folder(path) / UPDATING
        if self.submodules:
            yield path / ".gitmodules"
            for name in submodule_paths(path):
                yield path / name / ".git"

    # ------------------------------------------------------------------------------------------------ the four steps

    def read(self, machine: Machine) -> Repository:
        """Read the clone; with `update: ff` the remote is asked for its commit.

        Raises:
            TaskFailed: something else is at the path.

        """
        return look(machine, machine.path(self.path), self._request)

    def plan(self, state: Repository) -> Plan:
        """Compare the clone with the parameters; local work becomes a warning."""
        if not state.exists:
            source = git_url.without_credentials(self.url) + (f" ({self.ref})" if self.ref else "")
            return Plan(changes=(Change("clone", str(state.path), after=source),))
        if state.interrupted:
            return Plan(changes=(Change("repair", str(state.path), after="an interrupted update is taken back"),))
        changes: list[Change] = []
        warnings: list[str] = []
        if state.unset:
            changes.append(Change("configure", str(state.path), after=", ".join(state.unset)))
        if not state.head:
            warning = f"{state.path} has no commit: it is empty, or a clone of another program that was killed"
            return Plan(changes=tuple(changes), warnings=(warning,))
        moves = self._checkout(state)
        if not (moves or moves.warnings):
            moves = self._update(state)
        changes += moves.changes
        warnings += moves.warnings
        if state.missing_submodules and not moves:
            changes.append(Change("fetch submodules", str(state.path), after=", ".join(state.missing_submodules)))
        return Plan(changes=tuple(changes), warnings=tuple(warnings))

    def apply(self, plan: Plan, machine: Machine) -> list[Change]:
        """Clone, or change the clone.

        Raises:
            TaskFailed: git failed; a new clone is gone again, and an old one is as it was.

        """
        path = machine.path(self.path)
        if any(change.action == "clone" for change in plan.changes):
            machine.progress(f"cloning {git_command.host_of(self.url)}")
            network.retry(machine, lambda _offline: self._clone(path, machine), cached=False)
            return list(plan.changes)
        git = Clone(machine, path, self.url, self._settings)
        changes = plan.changes
        if any(change.action == "repair" for change in changes):
            git_repair.repair(git)
            changes += self.plan(self.read(machine)).changes
        with git_repair.repaired_on_failure(git):
            return [change for change in changes if self._carry_out(change, git, machine)]

    def _carry_out(self, change: Change, git: Clone, machine: Machine) -> bool:
        """Change an existing clone; return whether that was possible."""
        if change.action == "configure":
            self._configure(git)
        elif change.action == "fetch submodules":
            network.retry(machine, lambda _offline: self._fetch_submodules(git), cached=False)
        elif change.action != "repair":
            return self._move(git, change, machine)
        return True

    # ------------------------------------------------------------------------------------------------------- the plan

    @property
    def _request(self) -> Request:
        return Request(self.url, self.ref, self._settings, self.submodules, self.update == "ff")

    @property
    def _settings(self) -> Variables:
        return {} if self.credential_helper is None else git_url.helper_settings(self.url, self.credential_helper)

    def _checkout(self, state: Repository) -> Plan:
        """Another branch, tag or commit; nothing if the right one is checked out."""
        if self.ref is None:
            return Plan()
        right = (
            state.branch == self.ref if state.wanted_is_branch else bool(state.wanted) and state.head == state.wanted
        )
        if right or (not state.wanted and state.branch == self.ref):
            return Plan()
        now = state.branch or state.head[:12]
        if state.untouched:
            return Plan(changes=(Change("checkout", str(state.path), now, self.ref),))
        if state.changed:
            reason = f"{state.changed} changed files are in it"
        elif state.left is None:
            reason = "somebody else has cloned it"
        else:
            reason = "somebody else has checked that out"
        stays = f"{state.path} has {now} checked out, not {self.ref}, and stays, as {reason}"
        return Plan(warnings=(f"{stays}: git -C {state.path} checkout {self.ref}",))

    def _update(self, state: Repository) -> Plan:
        """The newest commit of the remote branch."""
        if self.update == "none" or (self.ref and state.wanted and not state.wanted_is_branch):
            return Plan()
        branch = self.ref or state.default
        pull = f"git -C {state.path} pull"
        if state.branch != branch:
            if self.ref:  # `_checkout` has warned
                return Plan()
            now = state.branch or f"the commit {state.head[:12]}"
            return Plan(warnings=(f"{state.path} is not updated: {now} is checked out, not {branch or 'a branch'}",))
        warning = {
            "gone": f"{state.path} is not updated: the remote has no branch {branch} any more",
            "diverged": f"{state.path} is not updated: its branch {branch} and the remote one have different commits: "
            f"{pull} --rebase",
        }.get(state.relation)
        if state.relation in ("behind", "unknown") and state.changed:
            warning = f"{state.path} is not updated: {state.changed} changed files are in it: commit them, then {pull}"
        if warning:
            return Plan(warnings=(warning,))
        if state.relation in ("behind", "unknown"):
            return Plan(changes=(Change("update", str(state.path), state.head[:12], state.remote_commit[:12]),))
        return Plan()

    # -------------------------------------------------------------------------------------------------- the execution

    def _clone(self, path: Path, machine: Machine) -> None:
        failure = f"cannot clone {git_url.without_credentials(self.url)}"
        with explained(f"cannot create {path}", path):
            make_folder(path.parent)
        with temporary_folder(path) as temporary:
            folder = temporary / "clone"
            named = self.ref is not None and self._is_name(temporary, machine, failure)
            words = ["clone", "--no-local", "--progress", "--no-checkout"]
            words += ["--depth", str(self.depth)] if self.depth else []
            words += ["--branch", self.ref] if named and self.ref else []
            words += [
                part
                for name, values in self._settings.items()
                for value in values
                for part in ("-c", f"{name}={value}")
            ]
            git_command.run(
                machine, path, [*words, "--", self.url, folder], failure=failure, url=self.url, cwd=temporary
            )
            git = Clone(machine, folder, self.url, self._settings)
            if self.ref is not None and not named:
                self._fetch_commit(git, failure)
                git.run("checkout", "--quiet", "--detach", self.ref, network=True, failure=failure)
            elif git.commit("HEAD"):  # filters of git may fetch, as those for large files do
                git.run("checkout", "--quiet", network=True, failure=failure)
            if self.submodules:
                self._fetch_submodules(git)
            self._remember(git)
            move_into_place(folder, path)

    def _is_name(self, temporary: Path, machine: Machine, failure: str) -> bool:
        """Whether `ref` is the name of a branch or tag; only what looks like a commit has to be asked for."""
        if not _PERHAPS_COMMIT.fullmatch(self.ref or ""):
            return True
        options = [(name, value) for name, values in self._settings.items() for value in values]
        done = git_command.run(
            machine,
            temporary,
            ["ls-remote", "--", self.url, f"refs/heads/{self.ref}", f"refs/tags/{self.ref}"],
            failure=failure,
            options=options,
            url=self.url,
        )
        return bool(done.output.strip())

    def _fetch_commit(self, git: Clone, failure: str) -> None:
        """Fetch a commit that a clone of limited depth, or of the branches and tags, may lack."""
        commit = self.ref or ""
        if git.commit(commit):
            return
        if not _COMMIT.fullmatch(commit) and self.depth is None:
            raise TaskFailed(failure, cause=f"the repository has no commit {commit}", cure="correct `ref`")
        try:
            git.run("fetch", *(["--depth", str(self.depth)] if self.depth else []), "origin", commit,
                    network=True, failure=failure)  # fmt: skip
        except network.NetworkFailed:
            raise
        except TaskFailed:  # not every server gives single commits
            if self.depth is None:
                raise
            git.run("fetch", "--unshallow", "origin", network=True, failure=failure)
        if not git.commit(commit):
            raise TaskFailed(failure, cause=f"the repository has no commit {commit}", cure="correct `ref`")

    def _move(self, git: Clone, change: Change, machine: Machine) -> bool:
        """Check out another ref, or move the branch forward; return whether that was possible."""
        failure = f"cannot {change.action} {git.path}"
        state = look(machine, git.path, self._request._replace(update=False))
        if state.changed or (change.action == "checkout" and not state.untouched):
            return False  # by now there is local work
        remote, ref = state.remote, self.ref or state.branch
        machine.progress(f"fetching {ref} from {git_command.host_of(self.url)}")
        if change.action == "update" or not state.wanted:
            network.retry(machine, lambda _offline: self._fetch(git, remote, ref, failure), cached=False)
        commit, is_branch = git.resolve(ref, remote)
        if not commit:
            raise TaskFailed(failure, cause=f"the repository has no branch, tag or commit {ref}", cure="correct `ref`")
        if change.action == "update":
            if not git.contains(commit, state.head):
                return False  # the remote branch was rewritten; the next reading warns
            words = ["merge", "--quiet", "--ff-only", "--no-overwrite-ignore", commit]
        elif is_branch and not git.commit(f"refs/heads/{ref}"):
            words = ["checkout", "--quiet", "--no-overwrite-ignore", "-b", ref, "--track", f"{remote}/{ref}"]
        else:
            words = [
                "checkout",
                "--quiet",
                "--no-overwrite-ignore",
                *([ref, "--"] if is_branch else ["--detach", commit]),
            ]
        git_repair.mark(git, commit)
        git.run(*words, network=True, failure=failure)
        if self.submodules:
            network.retry(machine, lambda _offline: self._fetch_submodules(git), cached=False)
        self._remember(git)
        return True

    def _fetch(self, git: Clone, remote: str, ref: str, failure: str) -> None:
        """Fetch a branch, or else a tag or a commit; the clone may know other branches only."""
        if _COMMIT.fullmatch(ref):
            git.run("fetch", "--quiet", remote, ref, network=True, failure=failure)
            return
        names = git.run("ls-remote", remote, f"refs/heads/{ref}", f"refs/tags/{ref}", network=True, failure=failure)
        if f"\trefs/heads/{ref}\n" in names:
            spec = f"+refs/heads/{ref}:refs/remotes/{remote}/{ref}"
            specs = git.output("config", "--get-all", f"remote.{remote}.fetch", accept=range(256)).splitlines()
            if not {spec, f"+refs/heads/*:refs/remotes/{remote}/*"}.intersection(specs):
                git.run("remote", "set-branches", "--add", remote, ref, failure=failure)
        elif f"\trefs/tags/{ref}\n" in names:
            spec = f"refs/tags/{ref}:refs/tags/{ref}"
        else:  # perhaps a short number of a commit
            spec = f"+refs/heads/*:refs/remotes/{remote}/*"
        git.run("fetch", "--quiet", remote, spec, network=True, failure=failure)

    def _fetch_submodules(self, git: Clone, above: str = "") -> None:
        """Fetch the submodules of a work tree, then those of each, none of them by a URL with credentials.

        Raises:
            TaskFailed: a URL has credentials, or git failed.

        """
        if not (git.path / ".gitmodules").is_file():
            return
        failure = f"cannot fetch the submodules of {self.path}{above}"
        listed = git.run("config", "--file", ".gitmodules", "--null", "--list")
        for item in listed.split("\0"):
            name, _, value = item.partition("\n")
            if name.endswith(".url") and git_url.credentials_in(value):
                raise TaskFailed(
                    failure,
                    cause=f"the file .gitmodules has a user or a password in {name}",
                    cure="remove it there, and let a credential helper give it",
                )
        depth = ["--depth", str(self.depth)] if self.depth else []
        git.run("submodule", "--quiet", "update", "--init", "--checkout", *depth, network=True, failure=failure)
        for name in submodule_paths(git.path):
            folder = git.path / name
            if (folder / ".git").exists():
                self._fetch_submodules(Clone(git.machine, folder, self.url, self._settings), f"/{name}")

    def _configure(self, git: Clone) -> None:
        """Write the credential helper into the clone's configuration."""
        for name, values in self._settings.items():
            git.run("config", "--local", "--replace-all", name, values[0])
            for value in values[1:]:
                git.run("config", "--local", "--add", name, value)

    def _remember(self, git: Clone) -> None:
        """Write down what is checked out, so that a later run knows whether somebody else has moved it."""
        status = git.status()
        if status.head:
            git.run("config", "--local", LEFT, f"{status.branch or '-'} {status.head}")
