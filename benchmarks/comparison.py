"""The same job by nbprovision, AWS's sample, Ansible, pyinfra and conda by hand: its time, and how it ends badly.

The job: an environment of two conda packages (beside Python and pip), two packages of pip's, a kernel. All take them
from the same local channel and index. conda is the one that NBPROVISION_TEST_CONDA names, else the one on the PATH; all
ways but the first need it.

    first run         caches empty, nothing there
    nothing to do     the same command again
    after a restart   HOME is new and empty; environments and caches are on the volume, and kept
    killed            a first run is killed with all its processes at several moments, then the same command runs again:
                      how often is the job then done, and how often does the command say so although it is not
    an error          one of the conda packages does not exist: how the run ends, and what it leaves
"""

from __future__ import annotations

import json
import os
import resource
import shutil
import signal
import statistics
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from scene import DISTRIBUTIONS, Scene, arguments, scene, uv

CONDA = ("ipykernel", "humanize")
PIP = DISTRIBUTIONS[:2]
KILLED_AT = (0.15, 0.3, 0.45, 0.6, 0.75, 0.9)  # of the time of a first run
MISSING = "no-such-package-anywhere"

# https://github.com/aws-samples/amazon-sagemaker-notebook-instance-lifecycle-config-samples (persistent-conda-ebs)
# with other packages, and without root, the download of Miniconda and the restart of Jupyter. As there, nothing ends
# the part that runs as the user at an error: the shell that reads it has no `set -e`.
AWS_ON_CREATE = """\
#!/bin/bash
set -e
bash <<'EOF'
eval "$("$CONDA" shell.posix hook)"
conda create --yes --name team --override-channels --channel "$CHANNEL" python pip
conda activate team
{installs}
pip install --quiet --index-url "$INDEX" {pip}
EOF
"""
AWS_ON_START = """\
#!/bin/bash
set -e
bash <<'EOF'
eval "$("$CONDA" shell.posix hook)"
for env in "$VOLUME"/envs/*; do
    BASENAME=$(basename "$env")
    conda activate "$BASENAME"
    python -m ipykernel install --user --name "$BASENAME" --display-name "Custom ($BASENAME)"
done
EOF
"""
# As a playbook without nbprovision's collection does it: commands with `creates`, and Ansible's own module for pip.
ANSIBLE = """\
- hosts: localhost
  connection: local
  gather_facts: false
  tasks:
    - name: The environment
      ansible.builtin.command:
        argv:
          ["{{{{ conda }}}}", create, --yes, --name, team, --override-channels, --channel, "{{{{ channel }}}}",
           python, pip, {conda}]
        creates: "{{{{ volume }}}}/envs/team/bin/python"
    - name: What comes from PyPI
      ansible.builtin.pip:
        name: [{pip}]
        executable: "{{{{ volume }}}}/envs/team/bin/pip"
        extra_args: "--index-url {{{{ index }}}}"
    - name: The kernel
      ansible.builtin.command:
        argv:
          ["{{{{ volume }}}}/envs/team/bin/python", -m, ipykernel, install, --user, --name, team,
           --display-name, Team]
        creates: ~/.local/share/jupyter/kernels/team/kernel.json
"""
PYINFRA = """\
import os
from pyinfra import host
from pyinfra.facts.files import File
from pyinfra.operations import pip, server

prefix = os.environ["VOLUME"] + "/envs/team"
if host.get_fact(File, path=prefix + "/bin/python") is None:
    server.shell(name="The environment", commands=[
        "$CONDA create --yes --name team --override-channels --channel $CHANNEL python pip {conda}"])
pip.packages(name="What comes from PyPI", packages=[{pip}], pip=prefix + "/bin/pip",
             extra_install_args="--index-url " + os.environ["INDEX"])
if host.get_fact(File, path=os.environ["HOME"] + "/.local/share/jupyter/kernels/team/kernel.json") is None:
    server.shell(name="The kernel", commands=[
        prefix + "/bin/python -m ipykernel install --user --name team --display-name Team"])
"""
# What somebody types, again after each start; `set -e` is their look at each line.
BY_HAND = """\
set -e
[ -x "$VOLUME/envs/team/bin/python" ] ||
    "$CONDA" create --yes --name team --override-channels --channel "$CHANNEL" python pip
"$CONDA" install --yes --name team --override-channels --channel "$CHANNEL" {conda}
"$VOLUME/envs/team/bin/pip" install --index-url "$INDEX" {pip}
"$VOLUME/envs/team/bin/python" -m ipykernel install --user --name team --display-name Team
"""
# As somebody looks who wants to use it: the modules import, and the kernel that Jupyter lists starts this Python.
PROBE = "import ipykernel.kernelapp, humanize, nbbench_alpha.part99, nbbench_beta.part99, pip"


class Way(NamedTuple):
    """A way to do the job.

    Attributes:
        name: Its name in the table.
        first: The command of a first run.
        again: The command of every later one.
        env: Its environment variables.

    """

    name: str
    first: Sequence[str]
    again: Sequence[str]
    env: Mapping[str, str]


class Cost(NamedTuple):
    """Seconds of wall time, and of processors in all processes of a command."""

    seconds: float
    processors: float


class Round(NamedTuple):
    """What one first run and the runs after it cost."""

    first_run: Cost
    nothing_to_do: Cost
    after_a_restart: Cost


class Bench:
    """Everything that the ways share."""

    def __init__(self, it: Scene) -> None:
        self.it = it
        self.volume = it.folder / "volume"
        self.channel = it.channel((*CONDA, "pip"), "comparison").as_uri()
        # The Python that stands first on the PATH, as the base of a conda does: what goes wrong goes wrong in there.
        self.base = it.folder / "base"
        subprocess.run([uv(), "venv", "--quiet", "--seed", "--python", sys.executable, self.base], check=True)
        self.conda = os.environ.get("NBPROVISION_TEST_CONDA") or shutil.which("conda")
        self.env = {
            **it.env,
            "NBPROVISION_HOME": str(self.volume / "nbprovision"),
            "PATH": f"{self.base / 'bin'}:{it.env['PATH']}",
            "CHANNEL": self.channel,
            "INDEX": it.index(),
            "VOLUME": str(self.volume),
            "CONDA": self.conda or "",
            "CONDA_ENVS_DIRS": str(self.volume / "envs"),
            "CONDA_PKGS_DIRS": str(self.volume / "pkgs"),
            "LC_ALL": "C.UTF-8",
            **{name: value for name, value in os.environ.items() if name == "CONDA_SOLVER"},
        }

    def ways(self, conda: Sequence[str]) -> list[Way]:
        """Each way, for these conda packages."""
        words = {"conda": " ".join(conda), "pip": " ".join(PIP)}
        listed = {"conda": ", ".join(conda), "pip": ", ".join(PIP)}
        quoted = {**words, "pip": ", ".join(map(repr, PIP))}
        prefix, packages = self.volume / "envs/team", f"python, pip, {listed['conda']}"
        book = self.it.playbook(
            [
                f"ensure_conda_env: {{prefix: '{prefix}', channels: ['{self.channel}'], packages: [{packages}]}}",
                f"ensure_pip_index: {{url: '{self.env['INDEX']}'}}",
                f"ensure_pip_pkg: {{env: '{prefix}', packages: [{listed['pip']}]}}",
                f"ensure_kernel: {{prefix: '{prefix}', name: team, display_name: Team}}",
            ]
        )
        ours = [self.it.command, "run", str(book)]
        ways = [Way("nbprovision", ours, ours, self.env)]
        if self.conda is None:
            print("there is no conda here, so the other ways are not measured")
            return ways
        installs = "\n".join(f'conda install --yes --override-channels --channel "$CHANNEL" {name}' for name in conda)
        create, start = (
            self._script("on-create.sh", AWS_ON_CREATE, {**words, "installs": installs}),
            self._script("on-start.sh", AWS_ON_START, words),
        )
        both = self._script("both.sh", f"#!/bin/bash\nset -e\n{create}\n{start}\n", {})
        ways.append(Way("AWS's sample", [str(both)], [str(start)], self.env))
        tools = self.it.folder / "peers/bin"
        variables = [f"{name.lower()}={self.env[name]}" for name in ("CONDA", "CHANNEL", "INDEX", "VOLUME")]
        play = self._script("play.yml", ANSIBLE, listed)
        ansible = [str(tools / "ansible-playbook"), str(play), *(word for pair in variables for word in ("-e", pair))]
        path = {
            **self.env,
            "PATH": f"{self.base / 'bin'}:{tools}:{self.it.env['PATH']}",
            "ANSIBLE_LOCALHOST_WARNING": "0",
        }
        # Ansible's own folder of temporary files is not part of the job.
        ways.append(Way("Ansible", ansible, ansible, {**path, "ANSIBLE_HOME": str(self.it.folder / "ansible")}))
        deploy = [str(tools / "pyinfra"), "-y", "@local", str(self._script("deploy.py", PYINFRA, quoted))]
        ways.append(Way("pyinfra", deploy, deploy, path))
        hand = ["/bin/sh", str(self._script("hand.sh", BY_HAND, words))]
        return [*ways, Way("conda by hand", hand, hand, self.env)]

    def _script(self, name: str, text: str, words: Mapping[str, str]) -> Path:
        path = self.it.folder / name
        path.write_text(text.format(**words) if words else text)
        path.chmod(0o755)
        return path

    def install_peers(self) -> None:
        """Ansible and pyinfra, in an environment of their own."""
        python = self.it.folder / "peers/bin/python"
        subprocess.run([uv(), "venv", "--quiet", "--python", sys.executable, python.parents[1]], check=True)
        subprocess.run([uv(), "pip", "install", "--quiet", "--python", python, "ansible-core", "pyinfra"], check=True)
        for command in ("ansible", "pyinfra"):
            shown = subprocess.run([python.with_name(command), "--version"], check=True, capture_output=True, text=True)
            print(shown.stdout.splitlines()[0])
        if self.conda is not None:
            print(subprocess.run([self.conda, "--version"], check=True, capture_output=True, text=True).stdout.strip())

    def empty(self) -> None:
        """The machine before a first run: nothing on the volume, nothing in HOME."""
        self.it.empty(self.volume)
        self.it.forget_home()
        (self.volume / "envs").mkdir()

    def missing(self) -> list[str]:
        """What the job lacks: empty when it is done."""
        prefix = self.volume / "envs/team"
        lacks = []
        python = prefix / "bin/python"
        if not python.exists() or subprocess.run([python, "-c", PROBE], check=False, capture_output=True).returncode:
            lacks.append("packages")
        for record in (prefix / "conda-meta").glob("*.json"):
            files = json.loads(record.read_text() or '{"files": [""]}')["files"]
            lacks += [f"{name} of {record.stem}" for name in files if not os.path.lexists(prefix / name)]
        kernel = self.it.home / ".local/share/jupyter/kernels/team/kernel.json"
        if not kernel.exists() or not Path(json.loads(kernel.read_text())["argv"][0]).exists():
            lacks.append("kernel")
        return lacks

    def round(self, way: Way) -> Round:
        """A first run, one with nothing to do, and one after a restart."""
        self.empty()
        first = self.timed(way, way.first)
        self.timed(way, way.again)  # the first after a first run may have something to settle
        nothing = self.timed(way, way.again)
        self.it.forget_home()
        return Round(first, nothing, self.timed(way, way.again))

    def timed(self, way: Way, command: Sequence[str]) -> Cost:
        """Run a command, after which the job is done."""
        started, before = time.perf_counter(), resource.getrusage(resource.RUSAGE_CHILDREN)
        done = subprocess.run(command, check=False, env=way.env, cwd="/", capture_output=True, text=True)
        seconds, after = time.perf_counter() - started, resource.getrusage(resource.RUSAGE_CHILDREN)
        if done.returncode or self.missing():
            raise SystemExit(
                f"{way.name}: {done.returncode}, {self.missing()}\n{done.stdout[-2000:]}\n{done.stderr[-2000:]}"
            )
        return Cost(seconds, after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime)

    def killed(self, way: Way, after: float) -> tuple[bool, bool]:
        """Kill a first run, run the command again; return whether the job is done, and whether it says so."""
        self.empty()
        quiet = {"stdin": subprocess.DEVNULL, "stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
        process = subprocess.Popen(way.first, env=way.env, cwd="/", start_new_session=True, **quiet)  # type: ignore[call-overload]
        time.sleep(after)
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        status = subprocess.run(way.again, check=False, env=way.env, cwd="/", **quiet).returncode  # type: ignore[call-overload]
        return not self.missing(), status == 0

    def failing(self, way: Way) -> str:
        """How a run ends whose conda package does not exist."""
        self.empty()
        done = subprocess.run(way.first, check=False, env=way.env, cwd="/", capture_output=True, text=True)
        kernel = "a kernel" if (self.it.home / ".local/share/jupyter/kernels/team").exists() else "no kernel"
        prefix = "an environment" if (self.volume / "envs/team/bin/python").exists() else "no environment"
        strayed = subprocess.run(
            [self.base / "bin/python", "-c", "import nbbench_alpha"], check=False, capture_output=True
        )
        elsewhere = ", pip's packages in another Python" if strayed.returncode == 0 else ""
        return f"exit status {done.returncode}, {prefix}, {kernel}{elsewhere}"


def main() -> None:
    options = arguments(__doc__, runs=3)
    with scene(options) as it:
        bench = Bench(it)
        bench.install_peers()
        ways = bench.ways(CONDA)
        rounds: dict[str, list[Round]] = {way.name: [] for way in ways}
        for _ in range(options.runs):  # in turn, so that the ways compare when the machine's speed drifts
            for way in ways:
                rounds[way.name].append(bench.round(way))
        for name, measured in rounds.items():
            columns = zip(Round._fields, zip(*measured, strict=True), strict=True)
            print(f"{name}: " + "; ".join(f"{field.replace('_', ' ')} {shown(costs)}" for field, costs in columns))
        for way in ways:
            first = statistics.median(measured.first_run.seconds for measured in rounds[way.name])
            ends = [bench.killed(way, share * first) for share in KILLED_AT]
            print(
                f"{way.name}, killed at {len(ends)} moments and run again: done {sum(done for done, _ in ends)} times, "
                f"not done and yet a success {sum(ok and not done for done, ok in ends)} times",
                flush=True,
            )
        for way in bench.ways(("ipykernel", MISSING)):
            print(f"{way.name}, a conda package that does not exist: {bench.failing(way)}", flush=True)


def shown(costs: Sequence[Cost]) -> str:
    """Median, lowest and highest time, and the median of the processors' time, which other work disturbs less."""
    seconds = [cost.seconds for cost in costs]
    processors = statistics.median(cost.processors for cost in costs)
    return (
        f"{statistics.median(seconds):.3g} s ({min(seconds):.3g} to {max(seconds):.3g}), processors {processors:.2g} s"
    )


if __name__ == "__main__":
    main()
