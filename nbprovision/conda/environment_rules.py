"""Rules about environments: what nothing makes, what the next image does not bring, what a restart takes away."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from pathlib import Path, PurePosixPath

from nbprovision.conda import environment_file
from nbprovision.lint.finding import Found, rule
from nbprovision.lint.subject import ASSUMED, Call, Playbook
from nbprovision.model.errors import ProvisionError

# Names that images had: framework, version of Python. https://docs.aws.amazon.com/sagemaker/latest/dg/nbi-jl.html
VERSIONED = re.compile(r"(?:amazonei_)?(mxnet|tensorflow2?|pytorch|chainer|theano|caffe2|python)(?:_latest)?_p\d{2,3}")
SERVER = "JupyterSystemEnv"
# The volume that survives, and what of a notebook instance does not. What is elsewhere may be mounted by the team.
_VOLUME = PurePosixPath("/home/ec2-user/SageMaker")
_LOST = tuple(PurePosixPath(place) for place in ("/home/ec2-user", "/tmp", "/var/tmp", "/dev/shm", "/root"))  # noqa: S108 - looked for, not written to
_PLACES = {
    "ensure_conda_env": ("prefix",),
    "ensure_venv": ("path",),
    "ensure_condarc": ("envs_dirs",),
    "ensure_pip_pkg": ("target",),
}
_REFERENCES = ("env", "envs", "except", "clone")


@rule(
    "unknown-environment",
    "error",
    "an environment that no task before makes, and that is not there",
    "the task fails",
)
def unknown_environment(playbook: Playbook) -> Iterable[Found]:
    """What each task said when it was asked what it needs, knowing what those before it make."""
    assumed = playbook.machine.platform.because == ASSUMED
    for call, error in playbook.objections if playbook.certain else ():
        named = [name for key in _REFERENCES for name in call.strings(key)]
        if assumed and any(map(_of_an_image, named)):
            continue  # this machine cannot tell; hard-coded-environment does
        yield Found(
            position=error.position or call.at(*_REFERENCES),
            message=error.message,
            why=error.cause or "the task fails",
            cure=error.cure,
        )


def _of_an_image(name: str) -> bool:
    return bool(VERSIONED.fullmatch(name)) or name in ("R", "base", "python3", "pytorch", SERVER) or "*" in name


@rule(
    "hard-coded-environment",
    "warning",
    "an environment of an older image by its full name, such as `pytorch_p310`",
    "image changes rename environments, and the current image has other names",
)
def hard_coded_environment(playbook: Playbook) -> Iterable[Found]:
    """Names that the playbook itself makes are its own affair."""
    made = {name for call in playbook.of("ensure_conda_env", "ensure_venv") for name in call.strings("name")}
    for call in playbook.calls:
        for key in _REFERENCES:
            for number, name in enumerate(call.strings(key)):
                match = VERSIONED.fullmatch(PurePosixPath(name).name)
                if match is not None and name not in made:
                    yield Found(
                        position=call.entry(key, number),
                        message=f"'{name}' is the name that one image gives the environment",
                        cure=f"write envs: {match[1].rstrip('2')}*, which means it on any image",
                    )


@rule(
    "environment-outside-volume",
    "warning",
    "an environment, or a folder for them, in a place that a notebook instance loses",
    "only /home/ec2-user/SageMaker survives a restart: the environment is made again at each start",
)
def environment_outside_volume(playbook: Playbook) -> Iterable[Found]:
    """By the places of an instance; on an instance everything beside its volume counts."""
    for call in playbook.calls:
        for key in _PLACES.get(call.kind, ()):
            for number, place in enumerate(call.strings(key)):
                if call.values.get("state") != "absent" and _is_lost(place, playbook):
                    yield Found(
                        position=call.entry(key, number),
                        message=f"{place} does not survive a restart",
                        cure=f"put it under {_VOLUME}, or give a name alone",
                    )


def _is_lost(place: str, playbook: Playbook) -> bool:
    platform = playbook.machine.platform
    path = PurePosixPath(place)
    if platform.kind == "notebook-instance" and platform.volume is not None:
        there = Path(playbook.machine.path(place))
        return platform.volume != there and platform.volume not in there.parents
    return _VOLUME not in (path, *path.parents) and any(lost in path.parents for lost in _LOST)


@rule(
    "jupyter-server-environment",
    "warning",
    "a task that changes JupyterSystemEnv, the environment of the Jupyter server itself",
    "what breaks it takes the notebook away",
)
def jupyter_server_environment(playbook: Playbook) -> Iterable[Found]:
    """Named by name or by path; exceptions from `envs` name it rightly."""
    for call in playbook.of("ensure_pip_pkg", "ensure_conda_pkg", "ensure_conda_env"):
        for key in ("env", "envs", "name", "prefix"):
            for number, name in enumerate(call.strings(key)):
                if PurePosixPath(name).name == SERVER:
                    yield Found(
                        position=call.entry(key, number),
                        message=f"it changes {SERVER}",
                        cure="use another environment; extensions of Jupyter are ensure_jupyter_extension's",
                    )


@rule(
    "kernel-without-ipykernel",
    "error",
    "`install_ipykernel: false` for an environment of the playbook that nothing installs ipykernel into",
    "the kernel cannot start",
)
def kernel_without_ipykernel(playbook: Playbook) -> Iterable[Found]:
    """Where all that the environment gets is known: the playbook makes it from packages."""
    for call in playbook.of("ensure_kernel"):
        if call.values.get("install_ipykernel") is not False or call.values.get("state") == "absent":
            continue
        for name in (*call.strings("env"), *call.strings("prefix")):
            makers = [one for one in playbook.of("ensure_conda_env", "ensure_venv") if name in _names(one)]
            if not makers or any(one.values.get(key) for one in makers for key in ("file", "clone", "requirements")):
                continue
            later = [one for one in playbook.of("ensure_pip_pkg", "ensure_conda_pkg") if name in _names(one)]
            if any(one.values.get("requirements") for one in later):
                continue
            packages = [text for one in (*makers, *later) for text in one.strings("packages")]
            if not any(re.match(r"(?:[\w./:-]+::)?(ipykernel|jupyter|notebook)\b", text) for text in packages):
                yield Found(
                    position=call.at("install_ipykernel"),
                    message=f"nothing installs ipykernel into '{name}'",
                    cure="leave install_ipykernel out, or add ipykernel to the environment's packages",
                )


@rule(
    "ignored-selector",
    "warning",
    "a selector (`# [win]`) in an environment file",
    "to conda it is a comment: the package is wanted on this machine too",
)
def ignored_selector(playbook: Playbook) -> Iterable[Found]:
    """As the file itself tells."""
    for call in playbook.of("ensure_conda_env"):
        for path in map(Path, call.strings("file") if call.task is not None else ()):
            try:
                selectors = environment_file.read(path).selectors
            except ProvisionError:  # told by what reads the playbook
                continue
            for line, message in selectors:
                yield Found(
                    position=call.at("file"),
                    message=f"{path.name}:{line}: {message}",
                    cure="take the line out of the file, or the comment off the line",
                )


def _names(call: Call) -> Iterator[str]:
    for key in ("name", "prefix", "path", "env", "envs"):
        yield from call.strings(key)
