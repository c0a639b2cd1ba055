# The Python API, generated from the definitions of the tasks by `python -m tests.reference.test_stub`.

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

from nbprovision.model.errors import InvalidPlaybook as InvalidPlaybook
from nbprovision.model.errors import LockTimeout as LockTimeout
from nbprovision.model.errors import ParameterError as ParameterError
from nbprovision.model.errors import Position as Position
from nbprovision.model.errors import ProvisionError as ProvisionError
from nbprovision.model.errors import TaskFailed as TaskFailed
from nbprovision.model.errors import UnknownEnvironment as UnknownEnvironment
from nbprovision.model.result import Change as Change
from nbprovision.model.result import Result as Result

__version__: str

def run_playbook(
    path: str | Path,
    *,
    extra_vars: Mapping[str, Any] | None = None,
    tags: Sequence[str] = (),
    skip_tags: Sequence[str] = (),
    check: bool = False,
    deep: bool = False,
    locked: bool = False,
    frozen: bool = False,
    home: str | Path | None = None,
    lock_timeout: float | None = None,
) -> list[Result]:
    """Bring this machine to the state that a playbook describes.

    Args:
        path: The playbook's file.
        extra_vars: Variables that win over all others.
        tags: Only tasks with one of these tags.
        skip_tags: No task with one of these tags.
        check: Say what would change, and change nothing.
        deep: Compare the files of every package, not only names and versions.
        locked: Install exactly what the lock beside the playbook has; refuse a stale one.
        frozen: The same, and use the lock even if it is stale.
        home: Folder of state, lock, log and caches; default as on the command line.
        lock_timeout: Seconds to wait for another run; None waits as long as it takes.

    Returns:
        A result for each task, in the order of the playbook; failed ones among them, with their ``error``.

    Raises:
        InvalidPlaybook: the playbook cannot mean anything, or names what is not there; or the lock is stale or missing.
        LockTimeout: another run held the lock for too long.
        UsageError: this runs as root, and the home folder is somebody else's.
    """

def ensure_block(
    *,
    path: str | Path,
    deep: bool = False,
    refresh_every: str | None = None,
    insertafter: str | None = None,
    insertbefore: str | None = None,
    state: Literal["absent", "present"] = "present",
    create: bool = False,
    mode: str | None = None,
    backup: bool = False,
    follow: bool = False,
    block: str = "",
    marker: str = "# {mark} NBPROVISION MANAGED BLOCK",
    marker_begin: str = "BEGIN",
    marker_end: str = "END",
    check: bool = False,
    home: str | Path | None = None,
    lock_timeout: float | None = None,
    no_log: bool = False,
    environment: Mapping[str, str] | None = None,
) -> Result:
    """Create and maintain a block of lines between two marks in a text file; all other lines stay.

    Several blocks in one file need a ``marker`` each.

    Args:
        path: The file.
        insertafter: Place of new lines: after the last line that matches this regular expression, or `EOF`, the end of
            the file, which is the default. If no line matches, they go to the end, with a warning.
        insertbefore: Place of new lines: before the last line that matches this regular expression, or at the end if no
            line matches; `BOF` is the beginning of the file.
        state: Whether the file contains it.
        create: Create a missing file; otherwise a missing file is an error.
        mode: Permissions of the file, in quotes: `"0644"`. Default: unchanged.
        backup: Keep a copy of the old file beside it; the result's `backup_file` is its path.
        follow: If the file is a link that leads out of its folder, change the file that it names.
        block: The lines.
        marker: The two marks, comments in the file's own language; `{mark}` stands for `BEGIN` or `END`.
        marker_begin: Text for `{mark}` in the first mark.
        marker_end: Text for `{mark}` in the last mark.
        deep: Compare the files themselves (sizes and hashes), not only names and versions.
        refresh_every: Look again after this long, whatever the witnesses say: `90s`, `30m`, `12h`, `7d`. Default: the
            task's own
        check: Report what would change, and change nothing.
        home: Folder of state, lock, log and caches; default as on the command line.
        lock_timeout: Seconds to wait for another run; None waits as long as it takes.
        no_log: Withhold values and reasons from the result and the log.
        environment: Environment variables for the work.

    Raises:
        ProvisionError: it failed.
    """

def ensure_ca_cert(
    *,
    deep: bool = False,
    refresh_every: str | None = None,
    name: str | None = None,
    path: str | Path | None = None,
    url: str | None = None,
    sha256: str | None = None,
    scope: Literal["system", "user"] = "user",
    timeout: str = "60s",
    state: Literal["absent", "present"] = "present",
    follow: bool = False,
    check: bool = False,
    home: str | Path | None = None,
    lock_timeout: float | None = None,
    no_log: bool = False,
    environment: Mapping[str, str] | None = None,
) -> Result:
    """Have programs trust a certificate authority, such as that of a company's proxy or package index.

    With `scope: user` there is one bundle, `~/.local/share/nbprovision/ca-bundle.pem`, of the machine's public
    authorities and the user's own. pip, conda, git and the aws command read it by their configuration. uv, curl,
    Python, requests, boto3, node and R read it by variables of the user's shells and of the Jupyter server, which all
    kernels inherit; the server reads them when it starts (`restart_jupyter`). Later tasks of the same run use it too.
    When the public authorities change, the bundle is made again.

    With `scope: system` the task stands under `root_tasks`. Root's part of the lifecycle script puts the certificates
    where the distribution wants them, and runs `update-ca-trust` (Amazon Linux) or `update-ca-certificates` (Debian).

    The file is PEM, with any number of certificates, or DER. A file with anything else in it, such as a private key, is
    refused. `state: absent` takes back the certificates, and with the last one the bundle and each setting that names
    it.

    Args:
        name: The name of the certificate: letters, digits, `-` and `_`. Default: that of the file.
        path: The file of the certificate.
        url: The file in the web or in S3: `https://HOST/PATH` or `s3://BUCKET/KEY`.
        sha256: The SHA-256 of the file behind `url`.
        scope: For the programs of the user, or of the whole machine: then it belongs under `root_tasks`.
        timeout: None
        state: Whether it is trusted.
        follow: If the file is a link that leads out of its folder, change the file that it names.
        deep: Compare the files themselves (sizes and hashes), not only names and versions.
        refresh_every: Look again after this long, whatever the witnesses say: `90s`, `30m`, `12h`, `7d`. Default: the
            task's own
        check: Report what would change, and change nothing.
        home: Folder of state, lock, log and caches; default as on the command line.
        lock_timeout: Seconds to wait for another run; None waits as long as it takes.
        no_log: Withhold values and reasons from the result and the log.
        environment: Environment variables for the work.

    Raises:
        ProvisionError: it failed.
    """

def ensure_command(
    *,
    deep: bool = False,
    refresh_every: str | None = None,
    argv: Sequence[str] | None = None,
    shell: str | None = None,
    executable: str = "/bin/sh",
    creates: str | Sequence[str] | None = None,
    removes: str | Sequence[str] | None = None,
    unless: str | Sequence[str] | None = None,
    onlyif: str | Sequence[str] | None = None,
    once_per: Literal["boot", "content", "ever"] | None = None,
    reads: str | Sequence[str] | None = None,
    background: bool = False,
    chdir: str | Path = "~",
    env: str | Path | None = None,
    environment: Mapping[str, str | int | float] = {},
    stdin: str = "",
    timeout: str | None = None,
    any_order: bool = False,
    check: bool = False,
    home: str | Path | None = None,
    lock_timeout: float | None = None,
    no_log: bool = False,
) -> Result:
    """Run a command, unless the paths in ``creates`` exist, those in ``removes`` are missing, or it has run before.

    Each of several conditions can prevent the run. After the run, the paths in ``creates`` must exist, those in
    ``removes`` must be missing, and ``unless`` must succeed. A command without these three and without ``once_per``
    runs each time (with ``onlyif`` each time that ``onlyif`` succeeds), and every run then checks all tasks of the
    playbook. ``unless`` and ``onlyif`` also run with ``--check``: they must not change anything.

    ``once_per`` decides by a record in the tool's home, which a success of the command writes. A command that fails, is
    killed, or fails by ``failed_when`` runs again at the next run. A command is known by its text (``argv`` or
    ``shell``, ``executable``) and ``chdir``: a command with another text has not run yet.

    With ``background`` the run does not wait for the command, which goes on after the end of the run. It has low
    priority, and all processes that it started end with it. ``nbprovision status`` shows it, its last result, its log
    (the output of its last run), and how to stop it. A run does not start it again while it is running. Tasks after it
    do not wait for it, and ``creates``, ``removes`` and ``unless`` count at the next run.

    The command keeps its place in the playbook: it runs after all tasks before it, and before all tasks after it. It
    runs as the user who runs the playbook, and must not leave a process behind, except by ``background``. The result
    has ``rc``, ``stdout``, ``stderr``, ``stdout_lines`` and ``stderr_lines``; with ``background`` it has ``pid`` and
    ``log``.

    Args:
        argv: Program and arguments, as words that no shell reads.
        shell: Text for a shell, instead of `argv`: with pipes, `&&`, variables. The shell also reads the values of
            templates: write them with `| quote`.
        executable: The shell for `shell`, `unless` and `onlyif`.
        creates: Paths that the command creates: it does not run if all exist. Relative to `chdir`.
        removes: Paths that the command removes: it does not run if all are missing. Relative to `chdir`.
        unless: A command that succeeds if there is nothing to do: text for the shell, or a list of words.
        onlyif: A command that must succeed before the command runs; written like `unless`.
        once_per: Run the command once per start of the machine (`boot`; in a container, of the container), again only
            when its content has changed (`content`: `env`, `environment`, `stdin` and the files in `reads`), or only
            once (`ever`).
        reads: Files that the command reads, and does not change: a part of its content. Relative to `chdir`.
        background: Start the command, and do not wait for its end.
        chdir: The folder that the command runs in. Default: the home folder.
        env: An environment, by name or path; the command runs in it as after activation.
        environment: Additional environment variables for the command.
        stdin: Text for the command's standard input.
        timeout: Time after which the command is killed: `90s`, `30m`. Default: no limit.
        any_order: Run the command beside other tasks: it depends on no task, and no task depends on it.
        deep: Compare the files themselves (sizes and hashes), not only names and versions.
        refresh_every: Look again after this long, whatever the witnesses say: `90s`, `30m`, `12h`, `7d`. Default: the
            task's own
        check: Report what would change, and change nothing.
        home: Folder of state, lock, log and caches; default as on the command line.
        lock_timeout: Seconds to wait for another run; None waits as long as it takes.
        no_log: Withhold values and reasons from the result and the log.

    Raises:
        ProvisionError: it failed.
    """

def ensure_conda_channel(
    *,
    path: str | Path,
    deep: bool = False,
    refresh_every: str | None = None,
    pypi: str | Path | Sequence[str | Path] = [],
    interpreter: str | Path | Sequence[str | Path] | None = None,
    packages_cache: str | Path | None = None,
    state: Literal["absent", "present"] = "present",
    check: bool = False,
    home: str | Path | None = None,
    lock_timeout: float | None = None,
    no_log: bool = False,
    environment: Mapping[str, str] | None = None,
) -> Result:
    """Build a conda channel in a folder of this machine, from its own Python and from wheels.

    The packages fit machines like this one, because they use the system's shared libraries. To use the channel, name
    the folder in the ``channels`` of ``ensure_conda_env``.

    The same Python and wheels give packages and indexes of the same bytes, in any folder, at any time. The variable
    ``SOURCE_DATE_EPOCH`` sets the time of their files; a Python source has an earlier one, made from its content.

    Args:
        path: The channel's folder.
        pypi: Requirements that become conda packages, with their dependencies; paths of wheels are possible too.
        interpreter: The CPython that becomes the package `python`: a path, a version such as `3.12`, or several of
            them. Default: nbprovision's own.
        packages_cache: Folder that keeps the wheels. Default: in nbprovision's cache.
        state: Whether the channel exists.
        deep: Compare the files themselves (sizes and hashes), not only names and versions.
        refresh_every: Look again after this long, whatever the witnesses say: `90s`, `30m`, `12h`, `7d`. Default: the
            task's own
        check: Report what would change, and change nothing.
        home: Folder of state, lock, log and caches; default as on the command line.
        lock_timeout: Seconds to wait for another run; None waits as long as it takes.
        no_log: Withhold values and reasons from the result and the log.
        environment: Environment variables for the work.

    Raises:
        ProvisionError: it failed.
    """

def ensure_conda_env(
    *,
    deep: bool = False,
    refresh_every: str | None = None,
    name: str | None = None,
    prefix: str | Path | None = None,
    packages: str | Sequence[str] = [],
    channels: str | Path | Sequence[str | Path] = [],
    file: str | Path | None = None,
    clone: str | Path | None = None,
    state: Literal["absent", "present"] = "present",
    exact: bool = False,
    update: Literal["latest", "none"] = "none",
    cuda: str | None = None,
    allow_platform_changes: bool = False,
    engine: Literal["auto", "conda", "rattler"] = "auto",
    check: bool = False,
    home: str | Path | None = None,
    lock_timeout: float | None = None,
    no_log: bool = False,
    environment: Mapping[str, str] | None = None,
) -> Result:
    """Create and maintain a conda environment, and leave its other packages unchanged.

    Each package comes from the first channel that has it, by conda's own rules. An installed package changes only if a
    spec requires it.

    Args:
        name: The environment by name: the one that conda knows by it, else a new one in the platform's folder.
        prefix: The environment by path, instead of a name.
        packages: Match specs as conda writes them: `python=3.12`, `numpy>=2,<3`, `conda-forge::gdal`.
        channels: Channels by name, URL or path, the preferred one first. Default: those of `.condarc`, else
            conda-forge.
        file: An `environment.yml` with further packages, channels and variables, and a pip section. Or a file with
            exact packages, which are installed without solving: a `pixi.lock` (the environment of the same name, else
            `default`), or the output of `conda list --explicit --md5`.
        clone: An environment, by name or path, that a new one begins as a copy of, including pip's packages. No channel
            or index is needed. An existing environment is not replaced.
        state: Whether the environment exists.
        exact: Remove packages that no task of the playbook requests and no requested package needs. With a file of
            exact packages: remove those that it does not name.
        update: `latest` keeps the requested packages at their newest versions, looked up once a day or as
            `refresh_every` says.
        cuda: Version of CUDA to solve for, such as `12.4`, or `none`. Default: the machine's. If it has changed,
            packages with builds for both versions get the other build of the same version.
        allow_platform_changes: Change packages of the platform's image in an environment that the platform provides, at
            the risk of an unstable notebook.
        engine: The engine that solves and installs. `rattler` is built in, `conda` is the machine's own. `auto` is the
            built-in engine, or the machine's own if the built-in one cannot run.
        deep: Compare the files themselves (sizes and hashes), not only names and versions.
        refresh_every: Look again after this long, whatever the witnesses say: `90s`, `30m`, `12h`, `7d`. Default: the
            task's own
        check: Report what would change, and change nothing.
        home: Folder of state, lock, log and caches; default as on the command line.
        lock_timeout: Seconds to wait for another run; None waits as long as it takes.
        no_log: Withhold values and reasons from the result and the log.
        environment: Environment variables for the work.

    Raises:
        ProvisionError: it failed.
    """

def ensure_conda_pkg(
    *,
    packages: str | Sequence[str],
    deep: bool = False,
    refresh_every: str | None = None,
    env: str | Path | None = None,
    envs: str | Path | Sequence[str | Path] | None = None,
    except_: str | Path | Sequence[str | Path] | None = None,
    allow_empty: bool = False,
    allow_platform_changes: bool = False,
    jupyter_server: bool = False,
    channels: str | Path | Sequence[str | Path] = [],
    state: Literal["absent", "latest", "present"] = "present",
    engine: Literal["auto", "conda", "rattler"] = "auto",
    check: bool = False,
    home: str | Path | None = None,
    lock_timeout: float | None = None,
    no_log: bool = False,
    environment: Mapping[str, str] | None = None,
) -> Result:
    """Install and remove conda packages in existing environments, and leave their other packages unchanged.

    In an environment that the platform provides, no package of its image changes. The requested packages are solved
    around them. If that is impossible, the task reports which packages would have to change and an alternative request.

    Args:
        env: The environment, by name or path.
        envs: Several environments: names, globs (`pytorch*`, `/path/envs/*`), paths, `all` (never the Jupyter server's
            own). `all` and globs leave out environments without a Python if one is needed.
        except_: Exceptions from `envs`: names, globs, paths.
        allow_empty: Whether `envs` may match no environment.
        allow_platform_changes: Change packages that the platform's image brought, at the risk of an unstable notebook.
        jupyter_server: Change even the environment that the platform's Jupyter server runs in, if it is named.
        packages: Match specs as conda writes them; with `state: absent` names.
        channels: Channels by name, URL or path, the preferred one first. Default: those of `.condarc`, else
            conda-forge.
        state: `latest` keeps the packages at their newest compatible versions, looked up once a day or as
            `refresh_every` says. `absent` removes them, and the packages that need them.
        engine: The engine that solves and installs. `rattler` is built in, `conda` is the machine's own. `auto` is the
            built-in engine, or the machine's own if the built-in one cannot run.
        deep: Compare the files themselves (sizes and hashes), not only names and versions.
        refresh_every: Look again after this long, whatever the witnesses say: `90s`, `30m`, `12h`, `7d`. Default: the
            task's own
        check: Report what would change, and change nothing.
        home: Folder of state, lock, log and caches; default as on the command line.
        lock_timeout: Seconds to wait for another run; None waits as long as it takes.
        no_log: Withhold values and reasons from the result and the log.
        environment: Environment variables for the work.

    Raises:
        ProvisionError: it failed.
    """

def ensure_condarc(
    *,
    deep: bool = False,
    refresh_every: str | None = None,
    scope: Literal["env", "system", "user"] = "user",
    env: str | None = None,
    channels: str | Path | Sequence[str | Path] | None = None,
    channel_alias: str | None = None,
    channel_priority: Literal["disabled", "flexible", "strict"] | None = None,
    default_channels: str | Path | Sequence[str | Path] | None = None,
    custom_channels: Mapping[str, str] | None = None,
    custom_multichannels: Mapping[str, Sequence[str]] | None = None,
    envs_dirs: str | Sequence[str] | None = None,
    pkgs_dirs: str | Sequence[str] | None = None,
    ssl_verify: bool | str | None = None,
    settings: Mapping[str, Any] | None = None,
    exact: bool = False,
    state: Literal["absent", "present"] = "present",
    check: bool = False,
    home: str | Path | None = None,
    lock_timeout: float | None = None,
    no_log: bool = False,
    environment: Mapping[str, str] | None = None,
) -> Result:
    """Set channels, mirrors and folders of environments and packages for conda, mamba and nbprovision.

    The settings are merged into `.condarc` (the user's in the home folder, the machine's in `/etc/conda`). All other
    settings stay unchanged to the last byte, including comments. In lists, the entries of the task come first in the
    given order, then the user's entries, unless ``exact``.
    A link in the file's place is followed within the home folder and the volume, and refused if it leads elsewhere.
    Environments that the playbook creates by name, before or after this task, go to the first writable folder of
    ``envs_dirs`` (on a notebook instance: one on its volume). Packages go to the first writable folder of
    ``pkgs_dirs``. On one file system environments and packages share files by hard links.

    A file with a channel that has a password or token gets the mode 0600. It is never written to the volume that
    survives restarts, into an environment, or for the whole machine.

    Args:
        scope: Scope of the file: this user, the whole machine, or the environment `env`.
        env: The environment (name or path) for `scope: env`.
        channels: Channels by name, URL or path, the preferred one first. `defaults` is Anaconda's main repository, to
            which its terms of service apply.
        channel_alias: The URL before each channel that is given by name: a mirror of anaconda.org.
        channel_priority: How conda chooses between channels; the built-in engine is always `strict`.
        default_channels: The channels that `defaults` stands for: a mirror of the main repository.
        custom_channels: Channels on other servers: a name to the URL before it.
        custom_multichannels: Names that stand for several channels.
        envs_dirs: Folders of environments: absolute, or with `~` or `$NAME`. New ones are created in the first.
        pkgs_dirs: Folders of packages, written like `envs_dirs`.
        ssl_verify: Check certificates: true, false, a file of authorities, or `truststore`.
        settings: Other settings of conda by their names, such as `proxy_servers: {https: http://proxy:3128}`. A mapping
            is merged into an existing one; a list replaces it.
        exact: Remove all other entries from the lists and mappings that the task names.
        state: `absent` removes the entries and values that the task names; others stay.
        deep: Compare the files themselves (sizes and hashes), not only names and versions.
        refresh_every: Look again after this long, whatever the witnesses say: `90s`, `30m`, `12h`, `7d`. Default: the
            task's own
        check: Report what would change, and change nothing.
        home: Folder of state, lock, log and caches; default as on the command line.
        lock_timeout: Seconds to wait for another run; None waits as long as it takes.
        no_log: Withhold values and reasons from the result and the log.
        environment: Environment variables for the work.

    Raises:
        ProvisionError: it failed.
    """

def ensure_download(
    *,
    url: str,
    path: str | Path,
    sha256: str,
    deep: bool = False,
    refresh_every: str | None = None,
    unpack: bool = False,
    mode: str | None = None,
    check: bool = False,
    home: str | Path | None = None,
    lock_timeout: float | None = None,
    no_log: bool = False,
    environment: Mapping[str, str] | None = None,
) -> Result:
    """Fetch a file from the web or S3, check its SHA-256, and put it in place, unpacked if wanted.

    Only a file with the right digest is put in place, at once and as a whole. If it is there already, no network is
    needed. With `unpack` the archive (tar, tar.gz, tar.bz2, tar.xz or zip) becomes the folder `path`. Another `sha256`
    replaces the folder, unless somebody has changed it: then the task fails and the folder stays. `deep: true` compares
    the content of the unpacked files too.

    Args:
        url: The file: `https://HOST/PATH` or `s3://BUCKET/KEY`.
        path: The path of the file, with `unpack` that of the folder.
        sha256: The SHA-256 of the file, 64 hexadecimal digits, as its publisher names it. For a file that you trust,
            `curl -fsSL URL | sha256sum` prints it.
        unpack: Unpack the archive into the folder `path`.
        mode: The mode of the file, `'0644'` or `u=rw,go=r`. Default: that of an existing file, else 0644.
        deep: Compare the files themselves (sizes and hashes), not only names and versions.
        refresh_every: Look again after this long, whatever the witnesses say: `90s`, `30m`, `12h`, `7d`. Default: the
            task's own
        check: Report what would change, and change nothing.
        home: Folder of state, lock, log and caches; default as on the command line.
        lock_timeout: Seconds to wait for another run; None waits as long as it takes.
        no_log: Withhold values and reasons from the result and the log.
        environment: Environment variables for the work.

    Raises:
        ProvisionError: it failed.
    """

def ensure_env_var(
    *,
    deep: bool = False,
    refresh_every: str | None = None,
    name: str | None = None,
    value: str | int | None = None,
    vars: Mapping[str, str | int] = {},
    where: Literal["everywhere", "kernels", "server", "shells"] = "everywhere",
    kernels: str | Sequence[str] = "all",
    state: Literal["absent", "present"] = "present",
    follow: bool = False,
    check: bool = False,
    home: str | Path | None = None,
    lock_timeout: float | None = None,
    no_log: bool = False,
    environment: Mapping[str, str] | None = None,
) -> Result:
    """Set environment variables in the user's kernels and in the shells of terminals, or in the Jupyter server.

    Values are literal: no shell and no kernel evaluates them. In a shell's file each variable has a block of its own.
    In a kernel it is an entry of `env` in kernel.json, which `ensure_kernel` keeps. Running kernels and terminals see
    the variables after their next start. The task changes the kernels that exist when its turn comes, so write it after
    the tasks that create them.

    The kernels of the image have no kernel.json of the user. They get a variable by `where: server`: it is then in
    `jupyter_config.py` in the user's Jupyter folder, and every kernel and terminal inherits it from the server,
    whichever environment it is of. The server reads the file when it starts; a lifecycle script runs before that, at
    any other time notify `restart_jupyter`. A variable of kernel.json precedes one of the server. `everywhere` does not
    include the server, because a variable such as PYTHONPATH can keep its own programs from starting.

    Args:
        name: Name of the variable.
        value: Its value.
        vars: Several variables, as a mapping of names to values.
        where: In the user's kernels, in shells (`~/.bashrc` and the file of login shells), in both (`everywhere`), or
            in the Jupyter server and with it in every kernel.
        kernels: The kernels: names, globs, or `all` of the user's.
        state: Whether the variables are set.
        follow: If the file is a link that leads out of its folder, change the file that it names.
        deep: Compare the files themselves (sizes and hashes), not only names and versions.
        refresh_every: Look again after this long, whatever the witnesses say: `90s`, `30m`, `12h`, `7d`. Default: the
            task's own
        check: Report what would change, and change nothing.
        home: Folder of state, lock, log and caches; default as on the command line.
        lock_timeout: Seconds to wait for another run; None waits as long as it takes.
        no_log: Withhold values and reasons from the result and the log.
        environment: Environment variables for the work.

    Raises:
        ProvisionError: it failed.
    """

def ensure_file(
    *,
    path: str | Path,
    deep: bool = False,
    refresh_every: str | None = None,
    content: str | None = None,
    src: str | Path | None = None,
    template: str | Path | None = None,
    mode: str | None = None,
    state: Literal["absent", "directory", "link", "present"] = "present",
    force: bool = True,
    follow: bool = False,
    backup: bool = False,
    check: bool = False,
    home: str | Path | None = None,
    lock_timeout: float | None = None,
    no_log: bool = False,
    environment: Mapping[str, str] | None = None,
) -> Result:
    """Create, maintain or remove a file, a folder or a link.

    A file gets its content from ``content``, ``src`` or ``template``. If none is given, an existing file keeps its
    content and a missing file is created empty. Missing folders above it are created. A file or folder of another kind
    is not replaced. A link at the path of a file is replaced by the file; its target stays unchanged.

    Args:
        path: The file, folder or link.
        content: The whole content of the file.
        src: A file to copy, or a folder whose files are copied into the folder `path`; with `state: link` the target of
            the link, relative to the link's own folder.
        template: A text file with templates, rendered with the playbook's variables.
        mode: Permissions, in quotes: `"0644"`, or `u=rw,go=r`. Default: unchanged; 0644 for a new file (0755 for a copy
            of a program), 0755 for a new folder.
        state: A file (or a copied folder), a folder, a link, or nothing: a folder is removed with its content.
        force: `false` keeps the content of an existing file.
        follow: If the path is a link, change the file that it names.
        backup: Keep a copy of the old file beside it; the result's `backup_file` is its path.
        deep: Compare the files themselves (sizes and hashes), not only names and versions.
        refresh_every: Look again after this long, whatever the witnesses say: `90s`, `30m`, `12h`, `7d`. Default: the
            task's own
        check: Report what would change, and change nothing.
        home: Folder of state, lock, log and caches; default as on the command line.
        lock_timeout: Seconds to wait for another run; None waits as long as it takes.
        no_log: Withhold values and reasons from the result and the log.
        environment: Environment variables for the work.

    Raises:
        ProvisionError: it failed.
    """

def ensure_git_config(
    *,
    name: str,
    deep: bool = False,
    refresh_every: str | None = None,
    value: str | Sequence[str] | bool | int | None = None,
    repo: str | Path | None = None,
    state: Literal["absent", "present"] = "present",
    follow: bool = False,
    check: bool = False,
    home: str | Path | None = None,
    lock_timeout: float | None = None,
    no_log: bool = False,
    environment: Mapping[str, str] | None = None,
) -> Result:
    """Set or remove a variable in git's configuration of the user (`~/.gitconfig`) or of a repository.

    For a variable with several values, `value` is the list of all of them. git itself reads and edits the file, so it
    must be installed and on `PATH`.

    Args:
        name: The variable, such as `user.email` or `remote.origin.url`.
        value: Its value, or a list of all its values.
        repo: Work tree of the repository. Default: the user's own configuration.
        state: Whether the variable is set.
        follow: If the file is a link that leads out of its folder, change the file that it names.
        deep: Compare the files themselves (sizes and hashes), not only names and versions.
        refresh_every: Look again after this long, whatever the witnesses say: `90s`, `30m`, `12h`, `7d`. Default: the
            task's own
        check: Report what would change, and change nothing.
        home: Folder of state, lock, log and caches; default as on the command line.
        lock_timeout: Seconds to wait for another run; None waits as long as it takes.
        no_log: Withhold values and reasons from the result and the log.
        environment: Environment variables for the work.

    Raises:
        ProvisionError: it failed.
    """

def ensure_git_repo(
    *,
    url: str,
    path: str | Path,
    deep: bool = False,
    refresh_every: str | None = None,
    ref: str | None = None,
    depth: int | None = None,
    submodules: bool = False,
    update: Literal["ff", "none"] = "none",
    credential_helper: str | None = None,
    check: bool = False,
    home: str | Path | None = None,
    lock_timeout: float | None = None,
    no_log: bool = False,
    environment: Mapping[str, str] | None = None,
) -> Result:
    """Clone a git repository, and keep the clone without ever touching local work in it.

    The clone is made beside `path` and renamed when it is complete. A folder that is not a clone of `url` is refused
    and kept; https and ssh URLs of the same repository count as the same. With `update: none` an existing clone needs
    no network. Another `ref` is checked out only if the clone stands as this task left it: with changed files, with
    local commits, or with another branch checked out it stays, and the task warns. Hooks are not run.

    Args:
        url: The repository: a URL of https or ssh, of CodeCommit, or a `file://` URL.
        path: The folder of the clone.
        ref: A branch, a tag or a commit. Default: the repository's default branch.
        depth: Clone only this many commits of the history, and no other branch.
        submodules: Fetch the submodules as well, at any depth.
        update: `none`: an existing clone is not updated. `ff`: once a day (see `refresh_every`) the branch is moved
            forward to the newest commit of the remote branch, unless there is local work.
        credential_helper: A credential helper of git for the server of `url`, used for the clone and written into its
            configuration.
        deep: Compare the files themselves (sizes and hashes), not only names and versions.
        refresh_every: Look again after this long, whatever the witnesses say: `90s`, `30m`, `12h`, `7d`. Default: the
            task's own
        check: Report what would change, and change nothing.
        home: Folder of state, lock, log and caches; default as on the command line.
        lock_timeout: Seconds to wait for another run; None waits as long as it takes.
        no_log: Withhold values and reasons from the result and the log.
        environment: Environment variables for the work.

    Raises:
        ProvisionError: it failed.
    """

def ensure_idle_stop(
    *,
    after: str,
    deep: bool = False,
    refresh_every: str | None = None,
    every: str = "5m",
    connections: bool = True,
    terminals: bool = True,
    busy_cpu: int = 25,
    signal: Literal["files", "jupyter"] = "jupyter",
    grace: str = "15m",
    unknown: Literal["keep", "stop"] = "keep",
    keep_awake: str = "12h",
    dry_run: bool = False,
    check: bool = False,
    home: str | Path | None = None,
    lock_timeout: float | None = None,
    no_log: bool = False,
    environment: Mapping[str, str] | None = None,
) -> Result:
    """Stop the machine when nobody has used it for some time.

    In use means: a kernel or a program in a terminal is at work, the user's processes take processor time, or a
    notebook is open in a browser. An idle kernel counts from its last activity. A kernel that stays `starting` is no
    work. An answer that cannot be read is unknown, and keeps the machine unless `unknown` says otherwise.

    On a notebook instance root's part of the lifecycle script installs the watcher: a timer of systemd and a service
    with a user of its own, which neither the notebook's user nor what he writes can end. It stops the instance by the
    `aws` command of the system, for which the role needs `sagemaker:StopNotebookInstance`.

    In Studio the user is root as well, so that the run starts the watcher as a process of the user's, which he can
    end, and which deletes the app (`sagemaker:DeleteApp`).

    `nbprovision status` shows the last decision with its reasons. `nbprovision keep-awake 3h` holds the machine, up to
    `keep_awake`.

    Args:
        after: None
        every: None
        connections: Whether a notebook that is open in a browser counts as used.
        terminals: Whether the activity of terminals counts, and programs that run in one.
        busy_cpu: None
        signal: What shows use: Jupyter's answers, or for Code Editor in Studio the changes of its files.
        grace: None
        unknown: What an answer means that cannot be read: `stop` lets the time without use go on.
        keep_awake: None
        dry_run: Say what would be done, and stop nothing.
        deep: Compare the files themselves (sizes and hashes), not only names and versions.
        refresh_every: Look again after this long, whatever the witnesses say: `90s`, `30m`, `12h`, `7d`. Default: the
            task's own
        check: Report what would change, and change nothing.
        home: Folder of state, lock, log and caches; default as on the command line.
        lock_timeout: Seconds to wait for another run; None waits as long as it takes.
        no_log: Withhold values and reasons from the result and the log.
        environment: Environment variables for the work.

    Raises:
        ProvisionError: it failed.
    """

def ensure_ini(
    *,
    path: str | Path,
    deep: bool = False,
    refresh_every: str | None = None,
    validate: str | Sequence[str] | None = None,
    backup: bool = False,
    follow: bool = False,
    scope: Literal["system", "user"] = "user",
    values: Mapping[
        str,
        Mapping[
            str, str | int | float | bool | Sequence[str | int | float | bool] | Mapping[str, str | int | float | bool]
        ],
    ] = {},
    remove: Sequence[str | Sequence[str]] = [],
    check: bool = False,
    home: str | Path | None = None,
    lock_timeout: float | None = None,
    no_log: bool = False,
    environment: Mapping[str, str] | None = None,
) -> Result:
    """Set and remove keys in the sections of an INI file, such as `~/.aws/config`, `openssl.cnf` or `setup.cfg`.

    A section is never written twice: keys are merged into the existing one, and a missing section comes at the end of
    the file. All other lines stay unchanged to the last byte, including comments, blank lines and their order. A new
    key has the indentation and the spaces around `=` of its neighbours. A value is written as given: quotes and escapes
    are those of the program that reads the file.

    A repeated section counts as one. A key that is repeated in it keeps one line, unless `values` has a list.
    A new file has the mode 0644, and a file for which `values` contains a secret gets the mode 0600.

    Args:
        path: The file. A missing one is created.
        validate: A command that must succeed before the file is replaced: text, or a list of words; no shell reads it.
            `%s` stands for a temporary file with the new content. With `--check` it does not run.
        backup: Keep a copy of the old file beside it; the result's `backup_file` is its path.
        follow: If the file is a link that leads out of its folder, change the file that it names.
        scope: `system`, under `root_tasks`: a file of root's, such as `/etc/docker/daemon.json`, whose owner and
            permissions stay. Root's part of the lifecycle script edits it, follows no link, and runs no `validate`.
        values: Values by section and key; the section `""` stands for keys above the first section. A truth value is
            written as `true` or `false`. A list repeats the key, for programs that read it several times; a mapping has
            lines of its own within the value, as `s3` in `~/.aws/config`; a text of several lines is indented.
        remove: What must be missing: a section, or a list of section and key: `[old, [pypi, repository]]`.
        deep: Compare the files themselves (sizes and hashes), not only names and versions.
        refresh_every: Look again after this long, whatever the witnesses say: `90s`, `30m`, `12h`, `7d`. Default: the
            task's own
        check: Report what would change, and change nothing.
        home: Folder of state, lock, log and caches; default as on the command line.
        lock_timeout: Seconds to wait for another run; None waits as long as it takes.
        no_log: Withhold values and reasons from the result and the log.
        environment: Environment variables for the work.

    Raises:
        ProvisionError: it failed.
    """

def ensure_json(
    *,
    path: str | Path,
    deep: bool = False,
    refresh_every: str | None = None,
    validate: str | Sequence[str] | None = None,
    backup: bool = False,
    follow: bool = False,
    scope: Literal["system", "user"] = "user",
    values: Mapping[str, Any] = {},
    remove: Sequence[str | Sequence[str]] = [],
    check: bool = False,
    home: str | Path | None = None,
    lock_timeout: float | None = None,
    no_log: bool = False,
    environment: Mapping[str, str] | None = None,
) -> Result:
    """Set and remove keys in a JSON file, such as the settings of JupyterLab or VS Code.

    Objects are merged key by key; lists and all other values are replaced as a whole. All other keys stay unchanged to
    the last byte, including comments (`//`, `/* */`), their order and the notation of numbers. New keys have the
    indentation of the file. A file that is not valid JSON, apart from comments and trailing commas, is not changed.

    A new file has the mode 0644, and a file for which `values` contains a secret gets the mode 0600.

    Args:
        path: The file. A missing one is created.
        validate: A command that must succeed before the file is replaced: text, or a list of words; no shell reads it.
            `%s` stands for a temporary file with the new content. With `--check` it does not run.
        backup: Keep a copy of the old file beside it; the result's `backup_file` is its path.
        follow: If the file is a link that leads out of its folder, change the file that it names.
        scope: `system`, under `root_tasks`: a file of root's, such as `/etc/docker/daemon.json`, whose owner and
            permissions stay. Root's part of the lifecycle script edits it, follows no link, and runs no `validate`.
        values: Keys with their values; a mapping within it stands for keys of an object within the file.
        remove: Keys that must be missing. A list of keys leads to a key within objects: `[theme, [editor, font]]`
            removes `theme`, and `font` in `editor`.
        deep: Compare the files themselves (sizes and hashes), not only names and versions.
        refresh_every: Look again after this long, whatever the witnesses say: `90s`, `30m`, `12h`, `7d`. Default: the
            task's own
        check: Report what would change, and change nothing.
        home: Folder of state, lock, log and caches; default as on the command line.
        lock_timeout: Seconds to wait for another run; None waits as long as it takes.
        no_log: Withhold values and reasons from the result and the log.
        environment: Environment variables for the work.

    Raises:
        ProvisionError: it failed.
    """

def ensure_jupyter_extension(
    *,
    deep: bool = False,
    refresh_every: str | None = None,
    name: str | None = None,
    packages: str | Path | Sequence[str | Path] = [],
    lab: Mapping[str, bool] = {},
    server: Mapping[str, bool] = {},
    env: str | Path | None = None,
    scope: Literal["env", "user"] = "user",
    state: Literal["absent", "latest", "present"] = "present",
    allow_platform_changes: bool = False,
    check: bool = False,
    home: str | Path | None = None,
    lock_timeout: float | None = None,
    no_log: bool = False,
    environment: Mapping[str, str] | None = None,
) -> Result:
    """Install and enable or disable extensions of JupyterLab and of the Jupyter server.

    pip installs them into the environment of the Jupyter server, and changes no package of the platform's image.
    Extensions must be prebuilt. JupyterLab shows a new extension when its page is loaded again. The server loads a new
    extension when it is restarted (`notify: restart_jupyter`).

    `name: nbprovision` is the extension in this package, which shows the state of runs. It goes into the user's own
    data folder of Jupyter, so that no environment changes, and needs neither pip nor a restart of the server.

    Args:
        name: `nbprovision`: the extension in this package, which shows the state of runs.
        packages: Packages with extensions, as in `ensure_pip_pkg`.
        lab: Extensions or plugins of JupyterLab, by name: whether each is enabled.
        server: Extensions of the server, by Python module: whether each is enabled.
        env: The environment, by name or path. Default: the Jupyter server's own.
        scope: Scope of `lab` and `server`: this user, or everybody whose Jupyter runs from the environment.
        state: As in `ensure_pip_pkg`; `absent` also removes the names in `lab` and `server` from the files.
        allow_platform_changes: Change packages that the platform's image brought, at the risk of an unstable notebook.
        deep: Compare the files themselves (sizes and hashes), not only names and versions.
        refresh_every: Look again after this long, whatever the witnesses say: `90s`, `30m`, `12h`, `7d`. Default: the
            task's own
        check: Report what would change, and change nothing.
        home: Folder of state, lock, log and caches; default as on the command line.
        lock_timeout: Seconds to wait for another run; None waits as long as it takes.
        no_log: Withhold values and reasons from the result and the log.
        environment: Environment variables for the work.

    Raises:
        ProvisionError: it failed.
    """

def ensure_kernel(
    *,
    deep: bool = False,
    refresh_every: str | None = None,
    env: str | Path | None = None,
    envs: str | Path | Sequence[str | Path] | None = None,
    except_: str | Path | Sequence[str | Path] | None = None,
    allow_empty: bool = False,
    prefix: str | Path | None = None,
    argv: Sequence[str] | None = None,
    name: str | None = None,
    display_name: str | None = None,
    language: str | None = None,
    environment: Mapping[str, str | int | float] = {},
    activate: bool = True,
    user_site: bool = False,
    scope: Literal["env", "system", "user"] = "user",
    state: Literal["absent", "present"] = "present",
    install_ipykernel: bool = True,
    validate: bool = False,
    interrupt_mode: Literal["message", "signal"] | None = None,
    logo: str | Path | None = None,
    metadata: Mapping[str, Any] = {},
    check: bool = False,
    home: str | Path | None = None,
    lock_timeout: float | None = None,
    no_log: bool = False,
) -> Result:
    """Create and maintain a Jupyter kernel for an environment (``env`` or ``prefix``) or any program (``argv``).

    The kernel of an environment starts as after ``conda activate``, or after a virtual environment's ``activate``. It
    runs the environment's Python; with ``argv`` it runs a program of another language, such as R, that is installed
    there. ``envs`` creates a kernel for each of several environments. ``{env}`` in ``name`` and ``display_name`` stands
    for the environment's name.

    Args:
        env: The environment, by name or path.
        envs: Several environments: names, globs (`pytorch*`, `/path/envs/*`), paths, `all` (never the Jupyter server's
            own). `all` and globs leave out environments without a Python if one is needed.
        except_: Exceptions from `envs`: names, globs, paths.
        allow_empty: Whether `envs` may match no environment.
        prefix: Path of the environment that the kernel runs in.
        argv: Command of a kernel other than the environment's Python; one word contains `{connection_file}`. With `env`
            or `prefix` it runs in that environment.
        name: Jupyter's name of the kernel: letters (Jupyter lowers them), digits and `.`, `_`, `-`. Default: the
            environment's name in that form.
        display_name: Name that Jupyter shows. Default: `Python (ENVIRONMENT)` (with `argv`, its language); outside any
            environment the kernel's name.
        language: Language of the kernel's notebooks. Default: `python`; for another program the kernel's name.
        environment: Environment variables of the kernel. Jupyter replaces `${NAME}` in a value by the server's variable
            and `$$` by a dollar sign. A value without `${...}` overrides what activation sets.
        activate: Start the kernel in its activated environment: PATH, CONDA_PREFIX, activate.d and the rest.
        user_site: Let the kernel see packages of `pip install --user`, which hide those of the environment.
        scope: Visibility of the kernel: `user` (the user's Jupyter), `system` (every user's; needs write access), `env`
            (the Jupyter that runs from the environment itself).
        state: Whether the kernel exists.
        install_ipykernel: Install ipykernel into the environment if it is missing; `false` makes that an error.
        validate: Start the kernel before it is offered, and ask it for `sys.prefix`.
        interrupt_mode: How Jupyter interrupts the kernel; its default is `signal`.
        logo: Logo (PNG or SVG) that Jupyter shows for the kernel. Default: ipykernel's, unless the kernel's folder
            contains another one.
        metadata: Additional `metadata` of the kernelspec, for Jupyter's extensions.
        deep: Compare the files themselves (sizes and hashes), not only names and versions.
        refresh_every: Look again after this long, whatever the witnesses say: `90s`, `30m`, `12h`, `7d`. Default: the
            task's own
        check: Report what would change, and change nothing.
        home: Folder of state, lock, log and caches; default as on the command line.
        lock_timeout: Seconds to wait for another run; None waits as long as it takes.
        no_log: Withhold values and reasons from the result and the log.

    Raises:
        ProvisionError: it failed.
    """

def ensure_line(
    *,
    path: str | Path,
    deep: bool = False,
    refresh_every: str | None = None,
    insertafter: str | None = None,
    insertbefore: str | None = None,
    state: Literal["absent", "present"] = "present",
    create: bool = False,
    mode: str | None = None,
    backup: bool = False,
    follow: bool = False,
    line: str | None = None,
    regexp: str | None = None,
    backrefs: bool = False,
    firstmatch: bool = False,
    check: bool = False,
    home: str | Path | None = None,
    lock_timeout: float | None = None,
    no_log: bool = False,
    environment: Mapping[str, str] | None = None,
) -> Result:
    r"""Create and maintain a line in a text file; all other lines stay.

    ``line`` replaces the last line that matches ``regexp``. If no line matches and the line is missing, it is added.
    ``state: absent`` removes every matching line.

    Args:
        path: The file.
        insertafter: Place of new lines: after the last line that matches this regular expression, or `EOF`, the end of
            the file, which is the default. If no line matches, they go to the end, with a warning.
        insertbefore: Place of new lines: before the last line that matches this regular expression, or at the end if no
            line matches; `BOF` is the beginning of the file.
        state: Whether the file contains it.
        create: Create a missing file; otherwise a missing file is an error.
        mode: Permissions of the file, in quotes: `"0644"`. Default: unchanged.
        backup: Keep a copy of the old file beside it; the result's `backup_file` is its path.
        follow: If the file is a link that leads out of its folder, change the file that it names.
        line: The line, without its end.
        regexp: Python regular expression, searched in each line, of the line to replace or remove.
        backrefs: `\1` or `\g<name>` in `line` stands for a group of `regexp`; without a match nothing changes.
        firstmatch: Use the first matching line, not the last, also for `insertafter` and `insertbefore`.
        deep: Compare the files themselves (sizes and hashes), not only names and versions.
        refresh_every: Look again after this long, whatever the witnesses say: `90s`, `30m`, `12h`, `7d`. Default: the
            task's own
        check: Report what would change, and change nothing.
        home: Folder of state, lock, log and caches; default as on the command line.
        lock_timeout: Seconds to wait for another run; None waits as long as it takes.
        no_log: Withhold values and reasons from the result and the log.
        environment: Environment variables for the work.

    Raises:
        ProvisionError: it failed.
    """

def ensure_mount(
    *,
    name: str,
    source: str,
    deep: bool = False,
    refresh_every: str | None = None,
    fstype: Literal["efs", "lustre", "nfs4", "s3"] = "efs",
    options: str | Sequence[str] | None = None,
    access_point: str | None = None,
    tls: bool = False,
    timeout: str = "30s",
    link: str | Path | None = None,
    state: Literal["absent", "mounted"] = "mounted",
    check: bool = False,
    home: str | Path | None = None,
    lock_timeout: float | None = None,
    no_log: bool = False,
    environment: Mapping[str, str] | None = None,
) -> Result:
    """Mount a file system of the network at `/mnt/NAME`: EFS, NFS, FSx for Lustre, or a bucket of S3.

    Root's part of the lifecycle script mounts it by a unit of systemd, and gives up after `timeout`: a server that does
    not answer is a warning, and the notebook starts. Nothing is mounted a second time, and no permissions
    are changed. Programs on it get no rights of others (`nosuid`, `nodev`).

    The user's own run makes the link, once the file system is there.

    Args:
        name: The name of the folder below `/mnt`: small letters, digits, `-` and `_`.
        source: What to mount: `fs-ID:/` or `fs-ID:/FOLDER` of EFS (in the region of the machine), `HOST:/FOLDER`,
            `HOST@tcp:/NAME` of Lustre, `s3://BUCKET/PREFIX/`.
        fstype: The type. `lustre` needs the package lustre-client, `s3` mount-s3: see ensure_system_pkg.
        options: Options in place of those that AWS recommends; `nosuid` and `nodev` are kept.
        access_point: The access point of EFS, `fsap-ID`; needs the package amazon-efs-utils.
        tls: Encrypt on the way (EFS); needs the package amazon-efs-utils.
        timeout: None
        link: A link to the file system, made by the user's run where nothing else is.
        state: `absent` takes away what this task mounted.
        deep: Compare the files themselves (sizes and hashes), not only names and versions.
        refresh_every: Look again after this long, whatever the witnesses say: `90s`, `30m`, `12h`, `7d`. Default: the
            task's own
        check: Report what would change, and change nothing.
        home: Folder of state, lock, log and caches; default as on the command line.
        lock_timeout: Seconds to wait for another run; None waits as long as it takes.
        no_log: Withhold values and reasons from the result and the log.
        environment: Environment variables for the work.

    Raises:
        ProvisionError: it failed.
    """

def ensure_pip_index(
    *,
    deep: bool = False,
    refresh_every: str | None = None,
    scope: Literal["env", "system", "user"] = "user",
    env: str | None = None,
    url: str | None = None,
    codeartifact: Mapping[str, Any] | None = None,
    extra_urls: str | Sequence[str] | None = None,
    trusted_hosts: str | Sequence[str] | None = None,
    cert: str | Path | None = None,
    find_links: str | Path | Sequence[str | Path] | None = None,
    index_strategy: Literal["best-match", "first-index"] | None = None,
    state: Literal["absent", "present"] = "present",
    check: bool = False,
    home: str | Path | None = None,
    lock_timeout: float | None = None,
    no_log: bool = False,
    environment: Mapping[str, str] | None = None,
) -> Result:
    """Set the package indexes of pip and uv.

    Merges into pip.conf, and for ``scope: user`` and ``scope: system`` into uv.toml. Other settings and comments stay.
    uv has no configuration file for an environment, so nbprovision gives pip's settings to uv there; a uv that you
    start by hand uses the user's. The previous content is kept beside each file (``pip.conf.nbprovision-before``,
    0600), and ``state: absent`` restores it.

    A file with a password becomes 0600. It is never written to the volume that survives restarts, into an environment
    (which is cloned, packed and shared), or for the whole machine (whose users could not read it). A link is replaced
    by a file with the content of its target, which does not change.

    With ``codeartifact`` the machine's `aws` command gives the token. Each run after half its lifetime renews it, which
    does not count as a change. If AWS does not answer, a valid token is kept, and a note says so.

    Args:
        scope: Scope of the file: this user, the whole machine, or the environment `env`.
        env: The environment (name or path) for `scope: env`.
        url: The index (PEP 503): an http, https or file URL, mostly ending in /simple. Required for `present`.
        codeartifact: A repository of AWS CodeArtifact instead of `url`: `domain`, `repository`; `owner` and `region` if
            not this instance's; `duration` of a token (`15m` to `12h`, the default); `endpoint` of a VPC, the URL
            before `/pypi/`.
        extra_urls: Further indexes. uv searches them before `url`; pip takes the best version of all.
        trusted_hosts: `host` or `host:port` whose certificate is not checked.
        cert: File with the certificate authorities to trust.
        find_links: Folders or pages with wheels and source distributions beside the indexes.
        index_strategy: With several indexes, uv takes the first that has a name (`first-index`, uv's default) or, like
            pip, the best version of all (`best-match`).
        state: `absent` restores the previous content.
        deep: Compare the files themselves (sizes and hashes), not only names and versions.
        refresh_every: Look again after this long, whatever the witnesses say: `90s`, `30m`, `12h`, `7d`. Default: the
            task's own
        check: Report what would change, and change nothing.
        home: Folder of state, lock, log and caches; default as on the command line.
        lock_timeout: Seconds to wait for another run; None waits as long as it takes.
        no_log: Withhold values and reasons from the result and the log.
        environment: Environment variables for the work.

    Raises:
        ProvisionError: it failed.
    """

def ensure_pip_pkg(
    *,
    deep: bool = False,
    refresh_every: str | None = None,
    env: str | Path | None = None,
    envs: str | Path | Sequence[str | Path] | None = None,
    except_: str | Path | Sequence[str | Path] | None = None,
    allow_empty: bool = False,
    allow_platform_changes: bool = False,
    jupyter_server: bool = False,
    packages: str | Path | Sequence[str | Path] | None = None,
    requirements: str | Path | Sequence[str | Path] | None = None,
    constraints: str | Path | Sequence[str | Path] | None = None,
    python: str | Path | None = None,
    system: bool = False,
    target: str | Path | None = None,
    state: Literal["absent", "latest", "present"] = "present",
    engine: Literal["auto", "pip", "uv"] = "auto",
    check: bool = False,
    home: str | Path | None = None,
    lock_timeout: float | None = None,
    no_log: bool = False,
    environment: Mapping[str, str] | None = None,
) -> Result:
    """Install, upgrade and uninstall Python packages in a conda or virtual environment.

    Packages come from an index, a file, a folder or a repository. Installed packages that satisfy the requirements do
    not change; missing dependencies are installed too. Both engines use the indexes of pip's configuration. If this
    task needs another version of a conda package, it replaces the package, and the conda task of the same playbook then
    leaves it alone. In an environment that the platform provides, the packages of its image do not change without
    ``allow_platform_changes``. Nor does a lock file replace a conda package without it.

    Args:
        env: The environment, by name or path.
        envs: Several environments: names, globs (`pytorch*`, `/path/envs/*`), paths, `all` (never the Jupyter server's
            own). `all` and globs leave out environments without a Python if one is needed.
        except_: Exceptions from `envs`: names, globs, paths.
        allow_empty: Whether `envs` may match no environment.
        allow_platform_changes: Change packages that the platform's image brought, at the risk of an unstable notebook.
        jupyter_server: Change even the environment that the platform's Jupyter server runs in, if it is named.
        packages: Requirements: `requests`, `requests[socks]>=2.31,<3`, `name @ URL`, `./a.whl`, `-e /a/folder`,
            `git+https://...`; each may be followed by `; marker`.
        requirements: Requirements files, with everything that pip allows in them, and lock files named `pylock.toml` or
            `pylock.NAME.toml` (PEP 751), whose packages are installed exactly as locked.
        constraints: Constraints files: the allowed versions of packages, if they are installed.
        python: Path of an interpreter, instead of `env`: `.venv/bin/python`.
        system: The Python that `pip install` uses if no environment is active, instead of `env`.
        target: A folder to install into, as with pip's `--target`, for the Python of `env`, `python` or `system`.
        state: `latest` keeps the named packages at the newest version that fits, looked up once a day or as set by
            `refresh_every`. `absent` uninstalls; with a version after the name, only that version.
        engine: The installer: uv, pip, or `auto`: uv if it supports all options, else pip.
        deep: Compare the files themselves (sizes and hashes), not only names and versions.
        refresh_every: Look again after this long, whatever the witnesses say: `90s`, `30m`, `12h`, `7d`. Default: the
            task's own
        check: Report what would change, and change nothing.
        home: Folder of state, lock, log and caches; default as on the command line.
        lock_timeout: Seconds to wait for another run; None waits as long as it takes.
        no_log: Withhold values and reasons from the result and the log.
        environment: Environment variables for the work.

    Raises:
        ProvisionError: it failed.
    """

def ensure_r_pkg(
    *,
    packages: str | Sequence[str],
    deep: bool = False,
    refresh_every: str | None = None,
    env: str | Path | None = None,
    repos: str | Path | Sequence[str | Path] = [],
    state: Literal["absent", "latest", "present"] = "present",
    check: bool = False,
    home: str | Path | None = None,
    lock_timeout: float | None = None,
    no_log: bool = False,
    environment: Mapping[str, str] | None = None,
) -> Result:
    """Install and remove R packages, from CRAN or another repository.

    R itself installs them with everything that they need, and only packages that can be loaded are put in place. With
    `env` they go into the library of the environment, without it into the user's library of the R on the PATH. Packages
    that conda or the platform's image brought never change. A package that was built for another R (4.2 and 4.3 differ)
    is built again. `deep: true` loads each package to see whether it still works.

    Args:
        packages: Names as CRAN has them, perhaps with `>=VERSION` or `==VERSION`; with `state: absent` names.
        env: The environment with the R (r-base), by name or path. Default: the R on the PATH.
        repos: Repositories: URLs, or folders with `src/contrib/PACKAGES`. Default: https://cloud.r-project.org.
        state: `latest` keeps the packages at the newest version, looked up once a day or as `refresh_every` says.
            `absent` removes them.
        deep: Compare the files themselves (sizes and hashes), not only names and versions.
        refresh_every: Look again after this long, whatever the witnesses say: `90s`, `30m`, `12h`, `7d`. Default: the
            task's own
        check: Report what would change, and change nothing.
        home: Folder of state, lock, log and caches; default as on the command line.
        lock_timeout: Seconds to wait for another run; None waits as long as it takes.
        no_log: Withhold values and reasons from the result and the log.
        environment: Environment variables for the work.

    Raises:
        ProvisionError: it failed.
    """

def ensure_s3_sync(
    *,
    source: str,
    path: str | Path,
    deep: bool = False,
    refresh_every: str | None = None,
    direction: Literal["down", "up"] = "down",
    once_per: Literal["boot", "ever", "run"] | None = None,
    exclude: str | Sequence[str] | None = None,
    expected_owner: str | None = None,
    archive: bool = False,
    delete: bool = False,
    check: bool = False,
    home: str | Path | None = None,
    lock_timeout: float | None = None,
    no_log: bool = False,
    environment: Mapping[str, str] | None = None,
) -> Result:
    """Restore a folder from S3 with `direction: down`, or send a folder to S3 with `direction: up`.

    The machine's `aws` command transfers the files that differ, with the notebook's role. `once_per` says how often: a
    record in the tool's home shows that a transfer is done, and then no process is started. A killed transfer goes on
    at the next run. No link is followed or replaced, nothing outside of `path` is sent, and only `delete: true` removes
    files on the receiving side. With `direction: down` a file that was changed after its object was stored stays.

    `aws s3 sync` knows no permissions, links and empty folders. With `archive: true` the folder becomes one object that
    has them. It is restored at once and as a whole, into a folder that is missing or empty.

    Args:
        source: The place in S3: `s3://BUCKET/PREFIX`, with `archive` the object `s3://BUCKET/NAME.tar.gz` (or `.tar`,
            `.tgz`).
        path: The folder on this machine.
        direction: `down` copies from S3 into the folder, `up` sends the folder to S3.
        once_per: How often it may transfer: once for this home (`ever`), once per start of the machine (`boot`), or in
            each run (`run`). Default: `ever` with `direction: down`, as a restore must not change later work, and
            `boot` with `direction: up`.
        exclude: Patterns of paths in the folder that are neither transferred nor removed: `*.ckpt`, `data/*`. `*`
            matches slashes too.
        expected_owner: The account, 12 digits, that the bucket must belong to: otherwise nothing is transferred. A name
            that its owner has given up may belong to anybody.
        archive: Transfer one tar archive, which keeps permissions, times, links and empty folders.
        delete: Remove files on the receiving side that the other one lacks; with `archive` and `direction: down` the
            archive replaces a folder that has files. An empty source removes nothing, and is an error.
        deep: Compare the files themselves (sizes and hashes), not only names and versions.
        refresh_every: Look again after this long, whatever the witnesses say: `90s`, `30m`, `12h`, `7d`. Default: the
            task's own
        check: Report what would change, and change nothing.
        home: Folder of state, lock, log and caches; default as on the command line.
        lock_timeout: Seconds to wait for another run; None waits as long as it takes.
        no_log: Withhold values and reasons from the result and the log.
        environment: Environment variables for the work.

    Raises:
        ProvisionError: it failed.
    """

def ensure_schedule(
    *,
    name: str,
    deep: bool = False,
    refresh_every: str | None = None,
    argv: Sequence[str] | None = None,
    shell: str | None = None,
    every: str | None = None,
    at: str | None = None,
    env: str | None = None,
    environment: Mapping[str, str | int | float] = {},
    timeout: str = "1h",
    missed: bool = False,
    state: Literal["absent", "present"] = "present",
    check: bool = False,
    home: str | Path | None = None,
    lock_timeout: float | None = None,
    no_log: bool = False,
) -> Result:
    """Run a command of the user's again and again, by a timer.

    On a notebook instance, root's part of the lifecycle script writes a timer and a service of systemd. The command
    runs as `ec2-user` in the home folder, with low priority, and never twice at the same time. The tool is on its PATH.
    The output goes to `schedules/NAME.log` in the tool's home. `nbprovision status` shows the last result and the next
    run. Write no secrets into it: all users of the machine can read the script.

    The time of `every` counts from the start of the machine. With `missed` it counts from the last run, and a run that
    was missed while the machine was off is made up for soon after its start. The first run of all then comes soon, too.

    Studio has no timers. There, the user's run starts a process that keeps the schedule. This process ends with the
    space, and the user can kill it. The next run of the playbook starts it again.

    A schedule that leaves the playbook ends with the next stop of the machine; `state: absent` ends it at once.

    Args:
        name: Its name: small letters, digits, `-` and `_`.
        argv: Program and arguments, as words that no shell reads.
        shell: Text for `/bin/sh`, instead of `argv`; it may have several lines.
        every: The time from one run to the next: `30m`, `8h`, `1d`.
        at: Times in the machine's time zone, as systemd writes them: `hourly`, `daily`, `weekly`, `monthly`, `08:30`,
            `Mon..Fri 08:30`, `*:00/15`, `*-*-01 02:00:00`.
        env: A conda or virtual environment, by absolute path (also `~/...`) or by name; the command runs in it as after
            activation. Each run searches for it, in `~/SageMaker/envs`, the tool's home, `~/.conda/envs` and the
            image's conda.
        environment: Additional environment variables for the command; no secrets.
        timeout: None
        missed: Make up for a run that was missed while the machine was off.
        state: `absent` ends the schedule and removes it.
        deep: Compare the files themselves (sizes and hashes), not only names and versions.
        refresh_every: Look again after this long, whatever the witnesses say: `90s`, `30m`, `12h`, `7d`. Default: the
            task's own
        check: Report what would change, and change nothing.
        home: Folder of state, lock, log and caches; default as on the command line.
        lock_timeout: Seconds to wait for another run; None waits as long as it takes.
        no_log: Withhold values and reasons from the result and the log.

    Raises:
        ProvisionError: it failed.
    """

def ensure_service(
    *,
    name: str,
    deep: bool = False,
    refresh_every: str | None = None,
    state: Literal["started", "stopped"] | None = None,
    enabled: bool | None = None,
    masked: bool | None = None,
    environment: Mapping[str, str | int | bool] | None = None,
    settings: Mapping[Literal["Service", "Unit"], Mapping[str, str | int | bool | Sequence[str | int | bool]]]
    | None = None,
    timeout: str = "30s",
    check: bool = False,
    home: str | Path | None = None,
    lock_timeout: float | None = None,
    no_log: bool = False,
) -> Result:
    """Start, stop, enable, disable or mask a service of systemd, and give it environment variables and settings.

    Root's part of the lifecycle script does it. `environment` and `settings` are the drop-in
    `/etc/systemd/system/NAME.service.d/nbprovision.conf`, which this task owns as a whole; the service's own files stay
    as they are. A service that runs is restarted when the drop-in changes. systemd ignores settings whose names begin
    with `X-`; with such a one a change of something else, such as the value in a file, restarts the service.

    For `jupyter-server` only the drop-in can be set, since the platform starts it. On-start usually runs before Jupyter
    does. If Jupyter runs already, it is restarted when the script has ended.

    A secret is refused: everybody on the machine, and everybody who may read the script, can read the drop-in.

    Args:
        name: The name of the service, with or without `.service`.
        state: Whether it runs.
        enabled: Whether the machine's boot starts it.
        masked: Whether nothing can start it. One that runs goes on, unless `stopped`.
        environment: Environment variables of the service. No secrets, as others can read them.
        settings: Settings by section and name, as systemd.unit(5), systemd.service(5) and systemd.exec(5) have them; a
            list repeats the name. `{}` for this and `environment` removes the drop-in.
        timeout: None
        deep: Compare the files themselves (sizes and hashes), not only names and versions.
        refresh_every: Look again after this long, whatever the witnesses say: `90s`, `30m`, `12h`, `7d`. Default: the
            task's own
        check: Report what would change, and change nothing.
        home: Folder of state, lock, log and caches; default as on the command line.
        lock_timeout: Seconds to wait for another run; None waits as long as it takes.
        no_log: Withhold values and reasons from the result and the log.

    Raises:
        ProvisionError: it failed.
    """

def ensure_system_pkg(
    *,
    packages: str | Sequence[str],
    deep: bool = False,
    refresh_every: str | None = None,
    state: Literal["absent", "present"] = "present",
    timeout: str = "100s",
    check: bool = False,
    home: str | Path | None = None,
    lock_timeout: float | None = None,
    no_log: bool = False,
    environment: Mapping[str, str] | None = None,
) -> Result:
    """Install or remove packages of the system, by dnf (Amazon Linux) or apt (Debian, Ubuntu, Studio).

    Root's part of the lifecycle script does it, within `timeout`. The package database alone says what is installed, so
    that a start with nothing to do runs neither dnf nor apt. Recommended packages are not installed, and no package is
    removed that the task does not name. A removed package's own scripts stop its service first. The next start
    completes an installation that was killed.

    Args:
        packages: Names of packages, without versions: a name, or a list. No file, URL or group.
        state: `absent` removes them, unless others need them; files of settings may stay.
        timeout: None
        deep: Compare the files themselves (sizes and hashes), not only names and versions.
        refresh_every: Look again after this long, whatever the witnesses say: `90s`, `30m`, `12h`, `7d`. Default: the
            task's own
        check: Report what would change, and change nothing.
        home: Folder of state, lock, log and caches; default as on the command line.
        lock_timeout: Seconds to wait for another run; None waits as long as it takes.
        no_log: Withhold values and reasons from the result and the log.
        environment: Environment variables for the work.

    Raises:
        ProvisionError: it failed.
    """

def ensure_venv(
    *,
    deep: bool = False,
    refresh_every: str | None = None,
    name: str | None = None,
    path: str | Path | None = None,
    python: str | Path | None = None,
    packages: str | Path | Sequence[str | Path] = [],
    requirements: str | Path | Sequence[str | Path] = [],
    state: Literal["absent", "present"] = "present",
    check: bool = False,
    home: str | Path | None = None,
    lock_timeout: float | None = None,
    no_log: bool = False,
    environment: Mapping[str, str] | None = None,
) -> Result:
    """Create and maintain a virtual environment.

    uv creates it from a Python of this machine. Other tasks can name it (`env`), and `all` includes it. Other packages
    in it stay, unless it is created again: if another minor version of Python is requested, or if its Python is gone
    and no other of that version is left. `%pip` works in its notebooks only if `pip` is among its packages.

    Args:
        name: The name of the environment. Its folder is in `SageMaker/envs` on a notebook instance, elsewhere in `envs`
            of the tool's home. No conda environment may have that name.
        path: The path of the environment, instead of a name: `.venv`.
        python: An installed Python: a version (`"3.12"`, `"3.12.4"`, `">=3.10,<3.13"`) or the path of an interpreter.
            Nothing is downloaded. Default: the present one; for a new environment the Python that `pip install` uses if
            no environment is active.
        packages: Requirements, as in `ensure_pip_pkg`.
        requirements: Requirements files, with everything that pip allows in them, and lock files named `pylock.toml` or
            `pylock.NAME.toml` (PEP 751), whose packages are installed exactly as locked.
        state: Whether the environment exists.
        deep: Compare the files themselves (sizes and hashes), not only names and versions.
        refresh_every: Look again after this long, whatever the witnesses say: `90s`, `30m`, `12h`, `7d`. Default: the
            task's own
        check: Report what would change, and change nothing.
        home: Folder of state, lock, log and caches; default as on the command line.
        lock_timeout: Seconds to wait for another run; None waits as long as it takes.
        no_log: Withhold values and reasons from the result and the log.
        environment: Environment variables for the work.

    Raises:
        ProvisionError: it failed.
    """

def restart_jupyter(
    *,
    deep: bool = False,
    refresh_every: str | None = None,
    unit: str = "jupyter-server.service",
    scope: Literal["system", "user"] = "system",
    at_boot: bool = False,
    check: bool = False,
    home: str | Path | None = None,
    lock_timeout: float | None = None,
    no_log: bool = False,
    environment: Mapping[str, str] | None = None,
) -> Result:
    """Restart the Jupyter server after a change; open notebooks reconnect, and running kernels stop.

    It is a handler only: `notify: restart_jupyter` on a task calls it, even if `handlers` does not list it. It does
    nothing while a lifecycle script runs: Jupyter starts after the script, and a restart by a script has been seen to
    break the notebook's own login. It has nothing to do if the server has started since the change: after a restart by
    hand, or of the machine.

    Only root can restart the service of a notebook instance; for any other user the handler fails and prints the
    command to run by hand. It remains to be done, and the run after that restart succeeds. In a JupyterLab space of
    Studio the user may restart the server: the handler starts the image's own `restart-jupyter-server`, which also
    closes the terminals. A Code Editor space has no Jupyter server.

    Args:
        unit: Name of the service's unit.
        scope: Whether it is a service of the machine, which needs root, or of the user.
        at_boot: Restart it even while a lifecycle script runs.
        deep: Compare the files themselves (sizes and hashes), not only names and versions.
        refresh_every: Look again after this long, whatever the witnesses say: `90s`, `30m`, `12h`, `7d`. Default: the
            task's own
        check: Report what would change, and change nothing.
        home: Folder of state, lock, log and caches; default as on the command line.
        lock_timeout: Seconds to wait for another run; None waits as long as it takes.
        no_log: Withhold values and reasons from the result and the log.
        environment: Environment variables for the work.

    Raises:
        ProvisionError: it failed.
    """
