"""Takes back an update of a clone that was killed half way, and touches no file that somebody has changed since."""

from __future__ import annotations

import contextlib
import hashlib
import os
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from nbprovision.files import git_command
from nbprovision.files.git_repository import UPDATING, Clone, git_folder
from nbprovision.model.errors import ProvisionError, TaskFailed
from nbprovision.system.files import read_text, remove, temporary_folder, write_atomically


class Difference(NamedTuple):
    """A path that an update changes, with the hash of its content before and after; zeros for none."""

    name: str
    before: str
    after: str

    @property
    def is_new(self) -> bool:
        """Whether the update creates it."""
        return not self.before.strip("0")


def mark(git: Clone, after: str = "") -> None:
    """Write down the commit that is checked out, and the one that the next command checks out."""
    before = git.commit("HEAD")
    write_atomically(git_folder(git.path) / UPDATING, f"{before} {after or before}\n")


@contextlib.contextmanager
def repaired_on_failure(git: Clone) -> Iterator[None]:
    """Mark a clone while the body changes it, and take back what the body leaves half done.

    If this process is killed, the mark stays, and the next run repairs the clone.
    """
    mark(git)
    try:
        yield
    except Exception:
        with contextlib.suppress(ProvisionError):
            repair(git)
        raise
    remove(git_folder(git.path) / UPDATING)


def repair(git: Clone) -> None:
    """Take a killed update back: every path that it may have changed is as before it.

    git changes the files first and the branch last. So the branch shows whether the update was complete, and every
    changed path has its old content, the new one or its beginning, or none.

    Raises:
        TaskFailed: a path has another content, so somebody has changed it since; nothing is touched.

    """
    folder = git_folder(git.path)
    before, _, after = (read_text(folder / UPDATING) or "").strip().partition(" ")
    _remove_leftovers(folder)
    if git.commit(before) and git.commit(after) and git.commit("HEAD") == git.commit(before):
        differences = list(_differences(git, before, after))
        for difference in differences:
            if not _is_ours(git, difference):
                raise TaskFailed(
                    f"an update of {git.path} was interrupted, and cannot be taken back",
                    cause=f"{difference.name} has been changed since",
                    cure=f"see git -C {git.path} status, keep what you need, and then: git -C {git.path} reset --hard; "
                    f"rm {folder / UPDATING}",
                )
        failure = f"cannot take back an interrupted update of {git.path}"
        git.run("read-tree", "--reset", before, failure=failure)
        for difference in differences:
            path = git.path / difference.name
            if os.path.lexists(path):
                remove(path)
        for difference in differences:
            if not difference.is_new:
                git.run("checkout-index", "--force", "--", difference.name, failure=failure)
        git.run("update-index", "-q", "--refresh", accept=range(2))
    remove(folder / UPDATING)


def _differences(git: Clone, before: str, after: str) -> Iterator[Difference]:
    """What a commit changes in another, by `git diff --raw` (https://git-scm.com/docs/diff-format)."""
    fields = iter(git.run("diff", "--raw", "--no-renames", "--no-abbrev", "-z", before, after).split("\0"))
    for field in fields:
        if field:
            old_mode, new_mode, old, new, _ = field.removeprefix(":").split(" ")
            name = next(fields)
            if "160000" not in (old_mode, new_mode):  # a submodule, which is a repository of its own
                yield Difference(name, old, new)


def _is_ours(git: Clone, difference: Difference) -> bool:
    """Whether a path has a content that the update, or the state before it, gives it; an empty file was just begun."""
    path = git.path / difference.name
    if "\ufffd" in difference.name:  # a name that is not UTF-8
        return False
    try:
        status = os.lstat(path)
    except (FileNotFoundError, NotADirectoryError):
        return True
    if stat.S_ISLNK(status.st_mode):
        content = os.fsencode(os.readlink(path))
    elif stat.S_ISREG(status.st_mode):
        content = path.read_bytes()
    else:
        return False
    algorithm = hashlib.sha1 if len(difference.after) == 40 else hashlib.sha256
    number = algorithm(b"blob %d\0" % len(content) + content).hexdigest()
    ours = (difference.before, difference.after)
    if not content or number in ours:
        return True
    if path.is_symlink():
        return False
    # With filters, such as those for large files, git has another content than the work tree.
    return git.output("hash-object", "--", difference.name) in ours or _is_beginning(git, content, difference.after)


def _is_beginning(git: Clone, content: bytes, number: str) -> bool:
    """Whether a content is the beginning of a blob, as git was killed while it wrote it."""
    with temporary_folder(git.path) as folder:
        done = git_command.run(
            git.machine,
            git.path,
            ["--git-dir", git_folder(git.path), "unpack-file", number],
            failure=f"git cannot read {git.path}",
            cwd=folder,
            accept=range(256),
        )
        return done.status == 0 and (folder / done.output.strip()).read_bytes().startswith(content)


def _remove_leftovers(folder: Path) -> None:
    """Remove locks and unfinished packs of a killed git, but never those of one at work."""
    leftovers = [*folder.glob("objects/pack/tmp_*")]
    for place, folders, files in os.walk(folder):
        if "objects" in folders:
            folders.remove("objects")
        leftovers += [Path(place, name) for name in files if name.endswith(".lock")]
    in_use = set()
    for descriptor in Path("/proc").glob("[0-9]*/fd/*") if leftovers else ():
        with contextlib.suppress(OSError):
            in_use.add(os.readlink(descriptor))
    for path in leftovers:
        if str(path) not in in_use:
            remove(path)
