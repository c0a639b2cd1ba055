"""A table of each option of pip and key of uv.toml that may affect an install, and its effect here.

Sources: https://pip.pypa.io/en/stable/cli/pip_install/, https://docs.astral.sh/uv/reference/settings/ and the two
programs themselves: a test compares the table with the options of the pip and the uv that are installed.
"""

from __future__ import annotations

from typing import Literal, NamedTuple

Here = Literal["passed", "index", "pip", "refused", "none", "task"]
# Their names in the docs.
HERE: dict[Here, str] = {
    "passed": "passed to uv as",
    "index": "index setting",
    "pip": "pip is chosen",
    "refused": "refused",
    "none": "without effect",
    "task": "without effect, with pip too",
}
_TASK = "the task sets it"
_MESSAGES = "for messages only"


class Option(NamedTuple):
    """An option of pip, in its configuration, in a variable ``PIP_NAME`` or in a requirements file.

    Attributes:
        names: Long names without dashes, as in pip.conf; several with the same effect, the first is that of the field.
        kind: ``flag``; ``unset`` (a flag that disables, for which pip's configuration has the *negated* value:
            ``no-build-isolation = false`` disables isolation); ``one`` value; ``words`` with spaces between.
        here: Its effect if uv installs.
        note: How, or why.
        file: Whether a requirements file may have it.

    """

    names: tuple[str, ...]
    kind: Literal["flag", "unset", "one", "words"]
    here: Here
    note: str = ""
    file: bool = False


def _option(names: str, kind: Literal["flag", "unset", "one", "words"], here: Here, note: str = "",
            *, file: bool = False) -> Option:  # fmt: skip
    return Option(tuple(names.split()), kind, here, note, file)


PIP: tuple[Option, ...] = (
    _option("index-url pypi-url", "one", "index", "`UV_DEFAULT_INDEX`", file=True),
    _option("extra-index-url", "words", "index", "`UV_INDEX`", file=True),
    _option("find-links", "words", "index", "`UV_FIND_LINKS`", file=True),
    _option("no-index", "flag", "index", "`--no-index`", file=True),
    _option("trusted-host", "words", "index", "`UV_INSECURE_HOST`", file=True),
    _option("cert", "one", "index", "`SSL_CERT_FILE`, `SSL_CERT_DIR`"),
    _option("client-cert", "one", "index", "`SSL_CLIENT_CERT`"),
    _option("proxy", "one", "index", "`HTTP_PROXY`, `HTTPS_PROXY`, `ALL_PROXY`"),
    _option("timeout default-timeout", "one", "index", "`UV_HTTP_TIMEOUT`"),
    _option("retries", "one", "index", "`UV_HTTP_RETRIES`"),
    _option("constraint", "words", "passed", "`--constraints`", file=True),
    _option("build-constraint", "words", "passed", "`--build-constraints`"),
    _option("no-binary", "one", "passed", "`--no-binary`", file=True),
    _option("only-binary", "one", "passed", "`--only-binary`", file=True),
    _option("pre", "flag", "passed", "`--prerelease allow`", file=True),
    _option("all-releases", "one", "passed", "`--prerelease allow`; for single packages pip is chosen", file=True),
    _option("only-final", "one", "passed", "`--prerelease disallow`; for single packages pip is chosen", file=True),
    _option("require-hashes", "flag", "passed", "`--require-hashes`, as does one line with a `--hash`", file=True),
    _option("no-require-hashes", "flag", "passed", "no `--require-hashes` for a line with a `--hash`", file=True),
    _option("no-build-isolation", "unset", "passed", "`--no-build-isolation`"),
    _option("config-settings", "one", "passed", "`--config-setting`; after a requirement pip is chosen"),
    _option("uploaded-prior-to", "one", "passed", "`--exclude-newer`"),
    _option("refresh-package", "one", "passed", "`--refresh-package`, `--refresh`"),
    _option("keyring-provider", "one", "passed", "`--keyring-provider`; for `import` pip is chosen"),
    _option("prefer-binary", "flag", "pip", "uv takes the newest version, with or without a wheel", file=True),
    _option("ignore-requires-python", "flag", "pip", "uv always follows Requires-Python"),
    _option("check-build-dependencies", "flag", "pip", "uv does not check them"),
    _option("no-proxy-env", "flag", "pip", "uv always reads the proxies of the environment"),
    _option("use-deprecated", "words", "pip", "`legacy-resolver`, for example, finds other versions"),
    _option("global-option build-option install-option", "words", "pip", "of older pips: for setup.py"),
    _option("no-use-pep517", "flag", "pip", "of older pips: uv always builds by PEP 517"),
    _option("editable", "words", "task", "the playbook lists the packages; in a requirements file: `--editable`, and "
            "pip for a repository", file=True),
    _option("requirement", "words", "task", "the playbook lists the packages; a requirements file may name others",
            file=True),
    _option("no-deps no-dependencies", "flag", "refused", "tasks install dependencies"),
    _option("only-deps only-dependencies", "flag", "refused", "tasks install the named packages"),
    _option("requirements-from-script", "words", "task", "the playbook lists the packages"),
    _option("group", "one", "task", "the playbook lists the packages"),
    _option("target", "one", "task", f"{_TASK}: `target`"),
    _option("user no-user", "flag", "task", f"{_TASK}: `env`, `python`, `system`"),
    _option("root prefix", "one", "task", f"{_TASK}: `env`, `target`"),
    _option("python", "one", "task", f"{_TASK}: `env`, `python`"),
    _option("require-virtualenv require-venv", "flag", "task", f"{_TASK}: `env`, `python`, `system`"),
    _option("platform", "words", "task", "packages are for the environment's Python, on this machine"),
    _option("python-version implementation", "one", "task", "packages are for the environment's Python"),
    _option("abi", "words", "task", "packages are for the environment's Python"),
    _option("src source source-dir source-directory", "one", "task", "clones of `-e git+...` go to `PREFIX/src`"),
    _option("break-system-packages", "flag", "task", f"{_TASK}: `system`"),
    _option("dry-run", "flag", "task", "`--check` of the run"),
    _option("upgrade", "flag", "task", f"{_TASK}: `state: latest`"),
    _option("upgrade-strategy", "one", "task", f"{_TASK}: `state: latest` upgrades the named packages"),
    _option("force-reinstall ignore-installed", "flag", "task", "installed packages stay"),
    _option("use-pep517", "flag", "none", "uv always builds by PEP 517"),
    _option("compile", "flag", "none", "Python compiles at the first import"),
    _option("no-compile", "unset", "none", "Python compiles at the first import"),
    _option("exists-action", "words", "none", "for folders of pip's own clones"),
    _option("use-feature", "words", "none", "for pip's own implementation", file=True),
    _option("cache-dir", "one", "none", "pip's own cache; `UV_CACHE_DIR` sets uv's"),
    _option("no-cache-dir", "flag", "none", "pip's own cache; `UV_NO_CACHE` disables uv's"),
    _option("no-clean", "flag", "none", "for folders of pip's own builds"),
    _option("resume-retries", "one", "none", "uv starts again"),
    _option("report", "one", "task", "the run reports"),
    _option("log log-file local-log", "one", "task", "the run has a log"),
    _option("no-input", "flag", "task", "no command asks questions"),
    _option("isolated", "flag", "task", "pip accepts it as an argument only"),
    _option("no-warn-script-location no-warn-conflicts", "unset", "task", _MESSAGES),
    _option("no-python-version-warning disable-pip-version-check no-color verbose quiet debug help", "flag", "task",
            _MESSAGES),
    _option("root-user-action progress-bar", "one", "task", _MESSAGES),
)  # fmt: skip
BY_NAME = {name: option for option in PIP for name in option.names}


class UvOption(NamedTuple):
    """A key of uv.toml.

    Attributes:
        names: Keys with the same effect.
        here: Their effect if uv installs.
        note: How, or why.
        binding: They restrict what may be installed, so pip, which does not know them, never replaces uv.
    """

    names: tuple[str, ...]
    here: Here
    note: str = ""
    binding: bool = False


def _key(names: str, here: Here, note: str = "", *, binding: bool = False) -> UvOption:
    return UvOption(tuple(names.split()), here, note, binding)


_PASSED = "itself, in a uv.toml that holds no secrets"
_OTHER = "for other commands of uv"

# The keys at the top of uv.toml, and those of its table [pip], which win for `uv pip`.
UV: tuple[UvOption, ...] = (
    _key("index index-url extra-index-url find-links no-index index-strategy allow-insecure-host", "index",
         "if pip's configuration has no value"),
    _key("http-proxy https-proxy no-proxy", "passed", "`HTTP_PROXY`, `HTTPS_PROXY`, `NO_PROXY`, if pip has no proxy"),
    _key("constraint-dependencies build-constraint-dependencies override-dependencies", "passed", _PASSED,
         binding=True),
    _key("exclude-newer exclude-newer-package", "passed", _PASSED, binding=True),
    _key("no-build no-build-package no-binary no-binary-package", "passed", _PASSED, binding=True),
    _key("prerelease prerelease-package dependency-metadata require-build-hashes", "passed", _PASSED, binding=True),
    _key("config-settings config-settings-package no-build-isolation no-build-isolation-package", "passed", _PASSED,
         binding=True),
    _key("extra-build-dependencies extra-build-variables no-sources no-sources-package torch-backend", "passed",
         _PASSED, binding=True),
    _key("resolution", "passed", f"{_PASSED}; not with `state: latest`", binding=True),
    _key("fork-strategy offline no-cache system-certs native-tls keyring-provider link-mode compile-bytecode "
         "concurrent-downloads concurrent-builds concurrent-installs", "passed", _PASSED),
    _key("exclude-dependencies", "refused", "tasks install dependencies"),
    _key("upgrade upgrade-package reinstall reinstall-package", "none", f"{_TASK}: `state`"),
    _key("cache-dir", "none", "the cache is on the file system of the environments; `UV_CACHE_DIR` sets it"),
    _key("required-version", "none", "for a uv that you start by hand"),
    _key("preview preview-features", "none", "for a uv that you start by hand"),
    _key("python-preference python-downloads python-install-mirror pypy-install-mirror graalpy-install-mirror "
         "pyodide-install-mirror python-downloads-json-url", "none", "the environment has its Python"),
    _key("publish-url trusted-publishing check-url add-bounds audit", "none", _OTHER),
    _key("cache-keys environments required-environments minimum-libc-version conflicts workspace sources managed "
         "package default-groups dependency-groups dev-dependencies build-backend", "none", "for projects"),
    _key("pip", "passed", "key by key, as below"),
)  # fmt: skip
UV_PIP: tuple[UvOption, ...] = (
    _key("index-url extra-index-url find-links no-index index-strategy", "index",
         "if pip's configuration has no value"),
    _key("no-build no-binary only-binary exclude-newer exclude-newer-package prerelease dependency-metadata", "passed",
         _PASSED, binding=True),
    _key("require-hashes verify-hashes require-build-hashes", "passed", _PASSED, binding=True),
    _key("config-settings config-settings-package no-build-isolation no-build-isolation-package "
         "extra-build-dependencies extra-build-variables no-sources no-sources-package torch-backend", "passed",
         _PASSED, binding=True),
    _key("resolution", "passed", f"{_PASSED}; not with `state: latest`", binding=True),
    _key("fork-strategy keyring-provider link-mode compile-bytecode strict", "passed", _PASSED),
    _key("no-deps", "refused", "tasks install dependencies"),
    _key("python system break-system-packages target prefix", "none", f"{_TASK}: `env`, `python`, `system`, `target`"),
    _key("python-version python-platform universal", "none", "packages are for the environment's Python"),
    _key("upgrade upgrade-package reinstall reinstall-package", "none", f"{_TASK}: `state`"),
    _key("extra all-extras no-extra group allow-empty-requirements", "none", "the playbook lists the packages"),
    _key("output-file no-strip-extras no-strip-markers no-annotate no-header custom-compile-command generate-hashes "
         "no-emit-package emit-index-url emit-find-links emit-build-options emit-marker-expression "
         "emit-index-annotation annotation-style", "none", _OTHER),
)  # fmt: skip
UV_BY_NAME = {name: option for option in UV for name in option.names}
UV_PIP_BY_NAME = {name: option for option in UV_PIP for name in option.names}


def tables() -> str:
    """The tables of the docs."""
    lines = ["| option of pip | in a requirements file | where uv installs |", "|---|---|---|"]
    for option in PIP:
        names = ", ".join(f"`{name}`" for name in option.names)
        lines.append(f"| {names} | {'yes' if option.file else 'no'} | {_answer(option)} |")
    for title, keys in (("key of uv.toml", UV), ("key of uv.toml's `[pip]`", UV_PIP)):
        lines += ["", f"| {title} | where uv installs |", "|---|---|"]
        lines += [f"| {', '.join(f'`{name}`' for name in key.names)} | {_answer(key)} |" for key in keys]
    return "".join(f"{line}\n" for line in lines)


def _answer(option: Option | UvOption) -> str:
    separator = " " if option.here == "passed" else ": "
    return HERE[option.here] + (f"{separator}{option.note}" if option.note else "")
