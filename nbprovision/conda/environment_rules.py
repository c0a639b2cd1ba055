"""Rules about environments: missing ones, names that other images lack, and places that a restart empties."""

from __future__ import annotations

import re
from collections.abc import Iterable
from pathlib import Path, PurePosixPath

from nbprovision.conda import environment_file
from nbprovision.lint.finding import Problem, rule
from nbprovision.lint.subject import ASSUMED, Playbook
from nbprovision.model.errors import ProvisionError

# Names of environments in images: framework, version of Python.
# https://docs.aws.amazon.com/sagemaker/latest/dg/nbi-jl.html
VERSIONED = re.compile(r"(?:amazonei_)?(mxnet|tensorflow2?|pytorch|chainer|theano|caffe2|python)(?:_latest)?_p\d{2,3}")
SERVER = "JupyterSystemEnv"
# The volume of a notebook instance survives a restart, these folders do not. The team may mount others.
_VOLUME = PurePosixPath("/home/ec2-user/SageMaker")
_LOST = tuple(PurePosixPath(folder) for folder in ("/home/ec2-user", "/tmp", "/var/tmp", "/dev/shm", "/root"))  # noqa: S108 - compared, not written to
_PLACES = {
    "ensure_conda_env": ("prefix",),
    "ensure_venv": ("path",),
    "ensure_condarc": ("envs_dirs",),
    "ensure_pip_pkg": ("target",),
}
_MAKERS = ("ensure_conda_env", "ensure_venv")
_REFERENCES = ("env", "envs", "except", "clone")
_NAMES = ("name", "prefix", "path", "env", "envs")


@rule("error", "the task fails")
def unknown_environment(playbook: Playbook) -> Iterable[Problem]:
    """A missing environment that no earlier task makes."""
    assumed = playbook.machine.platform.because == ASSUMED
    for call, error in playbook.objections if playbook.certain else ():
        # This machine does not know the environments of the image; hard-coded-environment checks their names.
        if not (assumed and any(map(_is_of_image, call.strings(*_REFERENCES)))):
            yield Problem(error.position or call.at(*_REFERENCES), error.message, error.cure, error.cause)


def _is_of_image(name: str) -> bool:
    return bool(VERSIONED.fullmatch(name)) or name in ("R", "base", "python3", "pytorch", SERVER) or "*" in name


@rule("warning", "image changes rename environments, and the current image has other names")
def hard_coded_environment(playbook: Playbook) -> Iterable[Problem]:
    """An environment of an older image by its full name, such as `pytorch_p310`.

    A name of an environment that the playbook makes is not reported.
    """
    made = {name for call in playbook.of(*_MAKERS) for name in call.strings("name")}
    for call in playbook.calls:
        for name, position in call.entries(*_REFERENCES):
            match = VERSIONED.fullmatch(PurePosixPath(name).name)
            if match is not None and name not in made:
                cure = f"write envs: {match[1].rstrip('2')}*, which matches it on any image"
                yield Problem(position, f"'{name}' is the environment's name on one image only", cure)


@rule("warning", "only /home/ec2-user/SageMaker survives a restart: each start makes the environment again")
def environment_outside_volume(playbook: Playbook) -> Iterable[Problem]:
    """An environment, or a folder for environments, in a place that a notebook instance loses.

    On a notebook instance, every place outside of its volume counts.
    """
    for call in playbook.calls:
        for place, position in call.entries(*_PLACES.get(call.kind, ())):
            if call.state != "absent" and _is_lost(place, playbook):
                message = f"{place} does not survive a restart"
                yield Problem(position, message, f"put it under {_VOLUME}, or give a name alone")


def _is_lost(place: str, playbook: Playbook) -> bool:
    platform = playbook.machine.platform
    if platform.kind == "notebook-instance" and platform.volume is not None:
        return not Path(playbook.machine.path(place)).is_relative_to(platform.volume)
    path = PurePosixPath(place)
    return not path.is_relative_to(_VOLUME) and any(lost in path.parents for lost in _LOST)


@rule("warning", "breaking it breaks the notebook")
def jupyter_server_environment(playbook: Playbook) -> Iterable[Problem]:
    """A task that changes JupyterSystemEnv, the environment of the Jupyter server itself."""
    for call in playbook.of("ensure_pip_pkg", "ensure_conda_pkg", "ensure_conda_env"):
        for name, position in call.entries("env", "envs", "name", "prefix"):
            if PurePosixPath(name).name == SERVER:
                cure = "use another environment; ensure_jupyter_extension installs extensions of Jupyter"
                yield Problem(position, f"it changes {SERVER}", cure)


@rule("error", "the kernel cannot start")
def kernel_without_ipykernel(playbook: Playbook) -> Iterable[Problem]:
    """`install_ipykernel: false` for an environment of the playbook that nothing installs ipykernel into.

    Only for an environment whose packages are all listed in the playbook.
    """
    for call in playbook.of("ensure_kernel"):
        if call.values.get("install_ipykernel") is not False or call.state == "absent":
            continue
        for name in call.strings("env", "prefix"):
            makers = [maker for maker in playbook.of(*_MAKERS) if name in maker.strings(*_NAMES)]
            installs = [
                task for task in playbook.of("ensure_pip_pkg", "ensure_conda_pkg") if name in task.strings(*_NAMES)
            ]
            sources = [*makers, *installs]
            if not makers or any(task.values.get(key) for task in sources for key in ("file", "clone", "requirements")):
                continue
            packages = [text for task in sources for text in task.strings("packages")]
            if not any(re.match(r"(?:[\w./:-]+::)?(ipykernel|jupyter|notebook)\b", text) for text in packages):
                cure = "leave install_ipykernel out, or add ipykernel to the environment's packages"
                yield Problem(call.at("install_ipykernel"), f"nothing installs ipykernel into '{name}'", cure)


@rule("warning", "to conda it is a comment: the package is installed on this machine too")
def ignored_selector(playbook: Playbook) -> Iterable[Problem]:
    """A selector (`# [win]`) in an environment file."""
    for call in playbook.of("ensure_conda_env"):
        for path in map(Path, call.strings("file") if call.task is not None else ()):
            try:
                selectors = environment_file.read(path).selectors
            except ProvisionError:  # reading the playbook reports it
                continue
            for line, message in selectors:
                cure = "remove the line from the file, or the comment from the line"
                yield Problem(call.at("file"), f"{path.name}:{line}: {message}", cure)
