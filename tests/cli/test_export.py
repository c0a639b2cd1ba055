"""`nbprovision export`: what was installed by hand, as a playbook; run after everything is gone, the same is there."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from nbprovision.cli.export import exported
from nbprovision.conda.ensure_conda_env import EnsureCondaEnv
from nbprovision.jupyter.ensure_kernel import EnsureKernel
from nbprovision.machine import distributions
from nbprovision.machine.environments import installed
from nbprovision.machine.machine import Machine
from nbprovision.system import unfinished
from nbprovision.system.files import remove_at_once
from tests.conftest import Channel
from tests.support.conda_packages import TinyChannel
from tests.support.driver import converge
from tests.support.exporting import by_hand, counts, nbprovision, tasks
from tests.support.wheels import make_wheel

pytestmark = pytest.mark.engine


def project(folder: Path, name: str) -> Path:
    """A project of one module, with nothing to build that would need an index."""
    folder.mkdir(parents=True)
    (folder / f"{name}.py").write_text("version = '0.1'\n")
    build = '[build-system]\nrequires = ["setuptools"]\nbuild-backend = "setuptools.build_meta"\n'
    body = f'[project]\nname = "{name}"\nversion = "0.1"\n[tool.setuptools]\npy-modules = ["{name}"]\n'
    (folder / "pyproject.toml").write_text(build + body)
    return folder


def repository(folder: Path, name: str) -> Path:
    project(folder, name)
    git = ["git", "-c", "user.name=x", "-c", "user.email=x@example.com", "-c", "init.defaultBranch=main"]
    for words in (["init", "-q"], ["add", "."], ["commit", "-q", "-m", "one"], ["tag", "v1"]):
        subprocess.run([*git, *words], cwd=folder, check=True, env={"PATH": "/usr/bin:/bin", "HOME": str(folder)})
    return folder


def state(prefix: Path) -> dict[str, str]:
    found = {f"conda {record.name}": record.version for record in installed(prefix)}
    for name, several in distributions.installed(prefix).items():
        found[name] = " ".join(one.version for one in several)
    return found


# ------------------------------------------------------------------------------------------------------- round and round


@pytest.mark.parametrize("pinned", [False, True], ids=["as asked", "pinned"])
def test_what_is_gone_is_made_again(
    machine: Machine, channel: Channel, wheels: Path, env: dict[str, str], tmp_path: Path, pinned: bool
) -> None:
    packages = ["python", "pip", "setuptools", "wheel", "idna=3.7"]
    converge(EnsureCondaEnv(name="fraud", packages=packages, channels=[channel.url]), machine)
    prefix = machine.home / "envs/fraud"
    by_hand(env, "pip", prefix, "pear[jam]")
    by_hand(env, "uv", prefix, "old-tool")
    by_hand(env, "uv", prefix, "-e", str(project(tmp_path / "mine", "mine")))
    repo = repository(tmp_path / "repo", "theirs")
    by_hand(env, "pip", prefix, f"theirs @ git+{repo.as_uri()}@v1")
    kernel = EnsureKernel(
        env="fraud", name="fr-1", display_name="Betrug \u00fc \u2013 {{ x }}", environment={"B": "2", "A": "{% 1"},
        install_ipykernel=False,
    )  # fmt: skip
    machine.forget()
    for package in ("ipykernel",):
        make_wheel(wheels, package, "7.0")
    by_hand(env, "pip", prefix, "ipykernel")
    converge(kernel, machine)

    options = ["--pinned"] if pinned else []
    done = nbprovision(env, "export", "fraud", *options)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.isascii()
    commit = subprocess.run(["git", "rev-parse", "HEAD"], cwd=repo, capture_output=True, text=True).stdout.strip()
    (_, made), (_, brought), (_, offered) = tasks(done.stdout)
    assert made["channels"] == [channel.url]
    python = next(record.version for record in installed(prefix) if record.name == "python")
    if pinned:
        assert f"python={python}" in made["packages"]
        assert "idna=3.7" in made["packages"]
        assert brought["packages"] == [
            "ipykernel==7.0", f"-e {tmp_path}/mine", "old-tool==1.0", "pear[jam]==1.0",
            f"theirs @ git+{repo.as_uri()}@{commit}",
        ]  # fmt: skip
    else:
        assert made["packages"] == ["idna=3.7", "pip", "python", "setuptools", "wheel"]
        assert brought["packages"] == [
            "ipykernel", f"-e {tmp_path}/mine", "old-tool", "pear[jam]", f"theirs @ git+{repo.as_uri()}@v1",
        ]  # fmt: skip
    assert (made["name"], brought["env"], offered["env"]) == ("fraud", "fraud", "fraud")
    book = tmp_path / "again.yml"
    book.write_text(done.stdout)
    assert counts(nbprovision(env, "run", str(book), "--check", "--format", "json"))["ok"] == 3
    found = counts(nbprovision(env, "run", str(book), "--format", "json"))
    assert (found["ok"], found["changed"]) == (3, 0)

    before = state(prefix)
    folder = Path(env["HOME"]) / ".local/share/jupyter/kernels/fr-1"
    spec = (folder / "kernel.json").read_text()
    remove_at_once(prefix)
    shutil.rmtree(folder)
    for name in ("state", "cache/repodata"):
        shutil.rmtree(machine.home / name, ignore_errors=True)
    env.update(UV_NO_BUILD_ISOLATION="1", PIP_NO_BUILD_ISOLATION="0")
    found = counts(nbprovision(env, "run", str(book), "--format", "json"))
    assert (found["changed"], found["failed"]) == (3, 0)
    assert state(prefix) == before
    assert (folder / "kernel.json").read_text() == spec
    # uv does not write down what it was asked for, so the second time an extra is told as what it brought.
    again = nbprovision(env, "export", "fraud", *options).stdout
    (_, made_again), (_, brought_again), (_, offered_again) = tasks(again)
    assert (made_again, offered_again) == (made, offered)
    assert [one for one in brought_again["packages"] if not one.startswith(("pear", "plum"))] == [
        one for one in brought["packages"] if not one.startswith("pear")
    ]
    assert counts(nbprovision(env, "run", str(book), "--format", "json"))["changed"] == 0


def test_several_environments_and_one_that_is_not_there(machine: Machine, env: dict[str, str], tmp_path: Path) -> None:
    tiny = TinyChannel(tmp_path / "tiny")
    tiny.add("alpha", "1.0")
    for name in ("one", "two"):
        converge(EnsureCondaEnv(name=name, packages=["alpha"], channels=[tiny.url]), machine)
    done = nbprovision(env, "export", "one", "two")
    assert [given["name"] for _, given in tasks(done.stdout)] == ["one", "two"]
    missing = nbprovision(env, "export", "one", "twoo")
    assert missing.returncode == 4
    assert missing.stdout == ""
    assert "there is no environment 'twoo'; did you mean 'two'?" in missing.stderr
    assert nbprovision(env, "export", str(tmp_path)).returncode == 4
    assert nbprovision(env, "export").returncode == 5


# ----------------------------------------------------------------------------------------------------------------- conda


def test_the_last_word_of_condas_history_counts(machine: Machine, tmp_path: Path) -> None:
    tiny = TinyChannel(tmp_path / "tiny")
    for version in ("1.0", "2.0"):
        tiny.add("alpha", version)
    tiny.add("beta", "1.0", depends=["gamma"])
    tiny.add("gamma", "1.0")
    tiny.add("delta", "1.0")
    for packages in (["alpha=1.0", "beta"], ["alpha=2.0"], ["delta"]):
        converge(EnsureCondaEnv(name="x", packages=packages, channels=[tiny.url]), machine)
        machine.forget()
    ((_, made),) = tasks(exported(machine, ["x"], pinned=False))
    assert made == {"name": "x", "channels": [tiny.url], "packages": ["alpha=2.0", "beta", "delta"]}
    ((_, made),) = tasks(exported(machine, ["x"], pinned=True))
    assert made["packages"] == ["alpha=2.0", "beta=1.0", "delta=1.0"]


HISTORY = """\
==> 2019-04-01 10:00:00 <==
# cmd: /opt/conda/bin/conda create -n x alpha
# specs: alpha, beta >=1
==> 2020-04-01 10:00:00 <==
# cmd: /opt/conda/bin/conda install -c {url} gamma=1.0
# conda version: 4.8.3
# update specs: ['gamma=1.0']
==> 2021-04-01 10:00:00 <==
# cmd: /opt/conda/bin/conda remove delta
# conda version: 4.9.2
# remove specs: ['beta']
# neutered specs: ['gamma=9']
"""


def test_histories_of_old_versions_of_conda(machine: Machine, tmp_path: Path) -> None:
    tiny = TinyChannel(tmp_path / "tiny")
    for name in ("alpha", "beta", "gamma", "delta"):
        tiny.add(name, "1.0")
    task = EnsureCondaEnv(name="x", packages=["alpha", "beta", "gamma", "delta"], channels=[tiny.url])
    converge(task, machine)
    prefix = machine.home / "envs/x"
    (prefix / "conda-meta/history").write_text(HISTORY.format(url=tiny.url))
    forget_requests(prefix)
    ((_, made),) = tasks(exported(machine, ["x"], pinned=False))
    # gamma is no 9: what is there is told
    assert made["packages"] == ["alpha", "gamma=1.0"]


def forget_requests(prefix: Path) -> None:
    for record in installed(prefix):
        content = json.loads(record.path.read_bytes())
        content.pop("requested_spec", None)
        content.pop("requested_specs", None)
        record.path.write_text(json.dumps(content))


def test_where_nobody_wrote_anything_down_it_says_that_it_guesses(machine: Machine, tmp_path: Path) -> None:
    tiny = TinyChannel(tmp_path / "tiny")
    tiny.add("alpha", "1.0")
    tiny.add("beta", "1.0", depends=["alpha"])
    converge(EnsureCondaEnv(name="x", packages=["beta"], channels=[tiny.url]), machine)
    prefix = machine.home / "envs/x"
    forget_requests(prefix)
    (prefix / "conda-meta/history").write_text("")
    text = exported(machine, ["x"], pinned=False)
    assert tasks(text)[0][1]["packages"] == ["beta"]
    assert "# The requested packages are not recorded" in text


def test_an_environment_elsewhere_goes_by_its_path(machine: Machine, tmp_path: Path) -> None:
    tiny = TinyChannel(tmp_path / "tiny")
    tiny.add("alpha", "1.0")
    converge(EnsureCondaEnv(prefix=str(tmp_path / "work/env"), packages=["alpha"], channels=[tiny.url]), machine)
    machine.forget()
    ((_, made),) = tasks(exported(machine, [str(tmp_path / "work/env")], pinned=False))
    assert made["prefix"] == str(tmp_path / "work/env")
    assert tasks(exported(machine, ["env"], pinned=False)) == [("ensure_conda_env", made)]


def test_channels_by_their_names(machine: Machine, tmp_path: Path, home: Path) -> None:
    (tmp_path / "all").mkdir()
    first, second = TinyChannel(tmp_path / "all/first"), TinyChannel(tmp_path / "all/second")
    first.add("alpha", "1.0")
    second.add("beta", "1.0")
    second.add("gamma", "1.0")
    (home / ".condarc").write_text(f"channel_alias: {(tmp_path / 'all').as_uri()}\nchannels: [first, second]\n")
    converge(EnsureCondaEnv(name="x", packages=["alpha", "second::beta", "gamma"]), machine)
    machine.forget()
    text = exported(machine, ["x"], pinned=False)
    ((_, made),) = tasks(text)
    assert made["channels"] == ["first", "second"]
    assert made["packages"] == ["alpha", "second::beta", "gamma"]
    ((_, made),) = tasks(exported(machine, ["x"], pinned=True))
    assert made["packages"] == ["alpha=1.0", "second::beta=1.0", "gamma=1.0"]


# --------------------------------------------------------------------------------------------------------------- secrets


def test_no_secret_is_printed(machine: Machine, env: dict[str, str], home: Path, tmp_path: Path) -> None:
    tiny = TinyChannel(tmp_path / "tiny")
    tiny.add("alpha", "1.0")
    converge(EnsureCondaEnv(name="x", packages=["alpha"], channels=[tiny.url]), machine)
    prefix = machine.home / "envs/x"
    (record,) = installed(prefix)
    content = json.loads(record.path.read_bytes())
    content["channel"] = "https://conda.example/t/tk-hunter/team"
    record.path.write_text(json.dumps(content))
    (prefix / "bin").mkdir()
    (prefix / "bin/python").symlink_to(sys.executable)
    site = prefix / f"lib/python3.{sys.version_info.minor}/site-packages"
    for name, url in (
        ("one", "https://me:hunter22@example.com/one-1.0-py3-none-any.whl"),
        ("two", "https://${TWO_TOKEN}:x-oauth@example.com/two-1.0.zip"),
        ("three", "ssh://git@example.com/three.git"),
    ):
        info = site / f"{name}-1.0.dist-info"
        info.mkdir(parents=True)
        (info / "REQUESTED").touch()
        (info / "METADATA").write_text(f"Name: {name}\n")
        vcs = {"vcs_info": {"vcs": "git", "commit_id": "0" * 40}} if name == "three" else {"archive_info": {}}
        (info / "direct_url.json").write_text(json.dumps({"url": url, **vcs}))
    folder = home / ".local/share/jupyter/kernels/k"
    folder.mkdir(parents=True)
    argv = [str(prefix / "bin/python"), "-m", "ipykernel_launcher", "-f", "{connection_file}"]
    spec = {"argv": argv, "display_name": "K", "language": "python", "env": {"API_TOKEN": "hunter33", "LEVEL": "3"}}
    spec["env"]["DATABASE"] = "postgresql://me:hunter44@db.example/fraud"
    (folder / "kernel.json").write_text(json.dumps(spec))

    done = nbprovision(env, "export", "x", "--pinned")
    assert done.returncode == 0, done.stderr
    assert "hunter" not in done.stdout + done.stderr
    assert "x-oauth" not in done.stdout
    made, brought, offered = (given for _, given in tasks(done.stdout))
    assert made["channels"] == ["https://conda.example/t/{{ lookup('env', 'EXPORTED_SECRET_1') }}/team"]
    assert brought["packages"][0] == (
        "one @ https://me:{{ lookup('env', 'EXPORTED_SECRET_2') }}@example.com/one-1.0-py3-none-any.whl"
    )
    assert brought["packages"][1] == f"three @ git+ssh://git@example.com/three.git@{'0' * 40}"
    assert offered["environment"] == {
        "API_TOKEN": "{{ lookup('env', 'API_TOKEN') }}",
        "LEVEL": "3",
        "DATABASE": "postgresql://me:{{ lookup('env', 'EXPORTED_SECRET_4') }}@db.example/fraud",
    }
    told = [line for line in done.stdout.splitlines() if "Not written down: a secret" in line]
    assert len(told) == 5
    assert any("EXPORTED_SECRET_1 before a run, for https://conda.example/t/****/team" in line for line in told)
    book = tmp_path / "book.yml"
    book.write_text(done.stdout)
    assert nbprovision(env, "run", str(book), "--list-tasks").returncode == 4  # the secrets are not set
    secrets = dict.fromkeys(re.findall(r"lookup\('+env'+, '+(\w+)'+\)", done.stdout), "x")
    listed = nbprovision(env | secrets, "run", str(book), "--list-tasks")
    assert listed.returncode == 0, listed.stderr


# ------------------------------------------------------------------------------------------------ kernels, and the text


def test_a_kernel_made_by_hand_and_one_of_another_language(machine: Machine, home: Path, tmp_path: Path) -> None:
    tiny = TinyChannel(tmp_path / "tiny")
    tiny.add("alpha", "1.0")
    converge(EnsureCondaEnv(name="x", packages=["alpha"], channels=[tiny.url]), machine)
    prefix = machine.home / "envs/x"
    folder = home / ".local/share/jupyter/kernels"
    specs = {
        "byhand": {
            "argv": [f"{prefix}/bin/python", "-m", "ipykernel_launcher", "-f", "{connection_file}"],
            "display_name": "By hand", "language": "python", "metadata": {"debugger": True},
        },
        "ir": {
            "argv": [f"{prefix}/lib/R/bin/R", "--slave", "-e", "IRkernel::main()", "--args", "{connection_file}"],
            "display_name": "R", "language": "R", "env": {"R_LIBS": "x"},
        },
    }  # fmt: skip
    for name, spec in specs.items():
        (folder / name).mkdir(parents=True)
        (folder / name / "kernel.json").write_text(json.dumps(spec))
    machine.forget()
    _, by_hand_made, other = tasks(exported(machine, ["x"], pinned=False))
    assert by_hand_made == ("ensure_kernel", {"env": "x", "name": "byhand", "display_name": "By hand"})
    assert other == (
        "ensure_kernel",
        {
            "argv": specs["ir"]["argv"], "name": "ir", "display_name": "R", "language": "R",
            "environment": {"R_LIBS": "x"},
        },
    )  # fmt: skip


def test_the_text_is_clean(machine: Machine, tmp_path: Path) -> None:
    tiny = TinyChannel(tmp_path / "tiny")
    tiny.add("alpha", "1.0")
    converge(EnsureCondaEnv(name="x", packages=["alpha>=1.0,<2"], channels=[tiny.url]), machine)
    machine.forget()
    lines = exported(machine, ["x"], pinned=False).splitlines()
    assert re.fullmatch(r"# The requested packages in x on \d{4}-\d\d-\d\d,", lines[0])
    assert re.fullmatch(r"# written by nbprovision \S+ \(export\) on this machine: other\.", lines[1])
    assert lines[2:] == [
        "- name: As exported from x",
        "  tasks:",
        "    - name: The environment x",
        "      ensure_conda_env:",
        "        name: x",
        "        channels:",
        f"          - {tiny.url}",
        "        packages:",
        "          - alpha>=1.0,<2",
    ]
    assert not [line for line in lines if line != line.rstrip()]


def test_what_no_parameter_says_is_a_comment(machine: Machine, tmp_path: Path) -> None:
    tiny = TinyChannel(tmp_path / "tiny")
    tiny.add("alpha", "1.0")
    converge(EnsureCondaEnv(name="x", packages=["alpha"], channels=[tiny.url]), machine)
    meta = machine.home / "envs/x/conda-meta"
    (meta / "pinned").write_text("alpha 1.*\n")
    (meta / "state").write_text('{"version": 1, "env_vars": {"LEVEL": "3"}}')
    text = exported(machine, ["x"], pinned=False)
    assert "# conda-meta/pinned, which no parameter writes, holds it to: alpha 1.*\n" in text
    assert "# Activation sets variables, which no parameter does: LEVEL\n" in text


def test_one_that_is_not_finished_is_said_to_be_so(machine: Machine, tmp_path: Path) -> None:
    tiny = TinyChannel(tmp_path / "tiny")
    tiny.add("alpha", "1.0")
    converge(EnsureCondaEnv(name="x", packages=["alpha"], channels=[tiny.url]), machine)
    unfinished.mark(machine.home / "envs/x", "ensure_conda_env")
    machine.forget()
    assert "    # It was unfinished at the time of the export." in exported(machine, ["x"], pinned=False).splitlines()
