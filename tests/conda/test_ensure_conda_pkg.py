"""Conda packages in environments that are there; the guard on those that the platform provides."""

from __future__ import annotations

from pathlib import Path

import pytest

from nbprovision.conda import health
from nbprovision.conda.ensure_conda_env import EnsureCondaEnv
from nbprovision.conda.ensure_conda_pkg import EnsureCondaPkg
from nbprovision.conda.records import all_details
from nbprovision.machine import image
from nbprovision.machine.environments import installed
from nbprovision.machine.image import Difference
from nbprovision.machine.machine import Machine
from nbprovision.model.errors import InvalidPlaybook, ParameterError, TaskFailed
from nbprovision.model.result import Result
from nbprovision.model.task import Claim, Foretold
from tests.support.conda_packages import TinyChannel
from tests.support.driver import converge, planned
from tests.support.provided_conda import Instance

pytestmark = pytest.mark.engine


@pytest.fixture
def channel(tmp_path: Path) -> TinyChannel:
    """The image brings core 1.0 and lib 1.0 which needs it; newer ones are there too, and things that ask for them."""
    made = TinyChannel(tmp_path / "channel")
    for version in ("1.0", "2.0"):
        made.add("core", version)
        made.add("lib", version, depends=[f"core {version[0]}.*"])
    made.add("plain", "1.0", depends=["core"])
    made.add("tool", "1.0", depends=["core"])
    made.add("tool", "2.0", depends=["core >=2"])
    made.add("rigid", "1.0", depends=["core >=2"])
    made.add("r-thing", "0.1", depends=["core"], files={"lib/R/library/thing/DESCRIPTION": "Package: thing\n"})
    return made


@pytest.fixture
def instance(env: dict[str, str], tmp_path: Path, channel: TinyChannel) -> Instance:
    """A notebook instance with one environment of the platform's."""
    made = Instance(env, tmp_path / "root")
    made.provide("python3", channel.url, "core=1.0", "lib=1.0")
    return made


def task(channel: TinyChannel, packages: str, more: str = "") -> str:
    return f"""
        - tasks:
            - ensure_conda_pkg: {{env: python3, packages: [{packages}], channels: ['{channel.url}']{more}}}
        """


def versions(prefix: Path) -> dict[str, str]:
    return {record.name: record.version for record in installed(prefix)}


def text(result: Result) -> str:
    assert result.error is not None
    return result.error.text


# ------------------------------------------------------------------------------------------------- one's own environments


def test_packages_come_and_go(machine: Machine, channel: TinyChannel) -> None:
    converge(EnsureCondaEnv(name="mine", packages=["lib=1"], channels=[channel.url]), machine)
    prefix = machine.prefix_of("mine")
    added = EnsureCondaPkg(env="mine", packages="plain", channels=channel.url)
    assert [(one.action, one.target) for one in converge(added, machine)] == [("install", "plain")]
    assert versions(prefix) == {"core": "1.0", "lib": "1.0", "plain": "1.0"}
    history = (prefix / "conda-meta/history").read_text()
    assert "# update specs: ['plain']" in history
    removed = EnsureCondaPkg(env="mine", packages="core", state="absent", channels=channel.url)
    assert [(one.action, one.target) for one in converge(removed, machine)] == [
        ("remove", "core"),
        ("remove", "lib"),
        ("remove", "plain"),
    ]
    assert versions(prefix) == {}
    assert "# remove specs: ['core', 'lib', 'plain']" in (prefix / "conda-meta/history").read_text()


def test_what_goes_takes_nothing_else_along(machine: Machine, channel: TinyChannel) -> None:
    converge(EnsureCondaEnv(name="mine", packages=["lib=1", "plain"], channels=[channel.url]), machine)
    converge(EnsureCondaPkg(env="mine", packages=["plain"], state="absent", channels=channel.url), machine)
    assert versions(machine.prefix_of("mine")) == {"core": "1.0", "lib": "1.0"}
    asked = health.requested(all_details(installed(machine.prefix_of("mine"))))
    assert asked.keys() == {"lib"}


def test_the_newest(machine: Machine, channel: TinyChannel) -> None:
    converge(EnsureCondaEnv(name="mine", packages=["core=1"], channels=[channel.url]), machine)
    latest = EnsureCondaPkg(env="mine", packages=["core"], state="latest", channels=channel.url)
    assert [(one.action, one.target, one.after) for one in converge(latest, machine)] == [("upgrade", "core", "2.0")]
    channel.add("core", "3.0")
    assert [one.after for one in converge(latest, machine)] == ["3.0"]


def test_several_environments(machine: Machine, channel: TinyChannel) -> None:
    for name in ("a", "b"):
        converge(EnsureCondaEnv(name=name, packages=["core=1"], channels=[channel.url]), machine)
    both = EnsureCondaPkg(envs=["a", "b"], packages="plain", channels=channel.url)
    assert [one.target for one in converge(both, machine)] == ["plain in a", "plain in b"]


def test_globs_and_exceptions(instance: Instance, channel: TinyChannel) -> None:
    for name in ("pytorch_p310", "tensorflow2_p310"):
        instance.provide(name, channel.url, "core=1.0")
    playbook = task(channel, "plain").replace("env: python3", "envs: [pytorch*, python3, tensor*], except: '*2_p310'")
    [result] = instance.run(playbook)
    assert [one.target for one in result.changes] == ["plain in pytorch_p310", "plain in python3"]
    assert instance.run(playbook)[0].proof == "witness"
    instance.provide("pytorch_p311", channel.url, "core=1.0")
    [later] = instance.run(playbook)
    assert [one.target for one in later.changes] == ["plain in pytorch_p311"]
    with pytest.raises(InvalidPlaybook, match="pytorch_p39") as caught:
        instance.run(task(channel, "plain").replace("python3", "pytorch_p39"))
    assert "image changes rename environments" in caught.value.cure


def test_an_environment_of_the_same_playbook(instance: Instance, channel: TinyChannel) -> None:
    playbook = f"""
        - vars: {{channels: ['{channel.url}']}}
          tasks:
            - ensure_conda_pkg: {{env: mine, packages: r-thing, channels: "{{{{ channels }}}}"}}
            - ensure_conda_env: {{name: mine, packages: [core=1], channels: "{{{{ channels }}}}"}}
        """
    with pytest.raises(Exception, match="there is no environment 'mine'"):
        instance.run(playbook)
    first, second = playbook.split("            - ")[1:]
    turned = (
        playbook.replace(first, "FIRST").replace(second, first.rstrip() + "\n").replace("FIRST", second.rstrip() + "\n")
    )
    assert [one.status for one in instance.run(turned, check=True)] == ["changed", "changed"]
    assert [one.status for one in instance.run(turned)] == ["changed", "changed"]
    assert [(one.status, one.proof) for one in instance.run(turned)] == [("ok", "witness")] * 2
    assert (instance.machine.prefix_of("mine") / "lib/R/library/thing/DESCRIPTION").is_file()


def test_an_exact_environment_keeps_what_another_task_asks_for(instance: Instance, channel: TinyChannel) -> None:
    playbook = f"""
        - tasks:
            - ensure_conda_env: {{name: mine, packages: [core=1], exact: true, channels: ['{channel.url}']}}
            - ensure_conda_pkg: {{env: mine, packages: [plain], channels: ['{channel.url}']}}
        """
    assert [one.status for one in instance.run(playbook)] == ["changed", "changed"]
    assert [one.status for one in instance.run(playbook, witness=False)] == ["ok", "ok"]
    assert instance.run(playbook)[0].proof == "witness"
    alone = playbook.partition("            - ensure_conda_pkg")[0]
    [result] = instance.run(alone)
    assert [(one.action, one.target) for one in result.changes] == [("remove", "plain")]


@pytest.mark.parametrize(
    ("parameters", "key"),
    [
        ({"packages": []}, "packages"),
        ({"packages": ">=3", "env": "x"}, "packages"),
        ({"packages": "a"}, "env"),
        ({"packages": "a", "env": "x", "envs": ["y"]}, "envs"),
        ({"packages": "a=1", "env": "x", "state": "absent"}, "packages"),
        ({"packages": "a", "env": "x", "allow_empty": True}, "allow_empty"),
        ({"packages": "a", "env": "x", "except_": ["y"]}, "except"),
    ],
)
def test_parameters_that_make_no_sense(parameters: dict[str, object], key: str) -> None:
    with pytest.raises(ParameterError) as caught:
        EnsureCondaPkg(**parameters)  # type: ignore[arg-type]
    assert caught.value.key == key


def test_what_pip_is_asked_for_against_a_spec_is_objected_to(machine: Machine, tmp_path: Path) -> None:
    prefix = tmp_path / "x"
    mine = EnsureCondaPkg(packages=["numpy<2", "idna"], env=str(prefix))
    assert mine.objection(Claim(prefix, "numpy>=2"), machine) == "ensure_conda_pkg asks for 'numpy<2'"
    assert mine.objection(Claim(prefix, "idna", absent=True), machine) == "ensure_conda_pkg asks for 'idna'"
    assert mine.objection(Claim(prefix, "numpy<1.9"), machine) is None
    assert mine.objection(Claim(tmp_path / "y", "numpy>=2"), machine) is None
    gone = EnsureCondaPkg(packages=["numpy"], env=str(prefix), state="absent")
    assert gone.objection(Claim(prefix, "numpy>=2"), machine) is None


def test_before_the_environment_is_made_it_is_known_what_comes(machine: Machine, tmp_path: Path) -> None:
    """With --check: a task before it makes the environment."""
    prefix = tmp_path / "x"
    machine.declared["x"] = prefix
    (change,) = planned(EnsureCondaPkg(packages="numpy<2", env=str(prefix), channels=str(tmp_path / "none")), machine)
    assert (change.action, change.target, change.after) == ("install", "numpy", "<2")
    assert planned(EnsureCondaPkg(packages="numpy", env=str(prefix), state="absent"), machine) == ()
    machine.foretold[prefix] = Foretold("3.11.2", {"numpy": "1.26"})
    assert planned(EnsureCondaPkg(packages="numpy<2", env=str(prefix)), machine) == ()
    (change,) = planned(EnsureCondaPkg(packages="numpy", env=str(prefix), state="absent"), machine)
    assert (change.action, change.target) == ("remove", "numpy")


# -------------------------------------------------------------------------------------------------------------- the guard


@pytest.mark.parametrize("package", ["plain", "tool", "r-thing"])
def test_most_installs_leave_the_image_alone(instance: Instance, channel: TinyChannel, package: str) -> None:
    """The newest tool would take a newer core along; an older one does not."""
    [result] = instance.run(task(channel, package))
    assert [(one.action, one.target) for one in result.changes] == [("install", package)]
    assert versions(instance.prefix("python3")) == {
        "core": "1.0",
        "lib": "1.0",
        package: "0.1" if package == "r-thing" else "1.0",
    }
    [again] = instance.run(task(channel, package))
    assert (again.status, again.proof) == ("ok", "witness")


def test_the_pin_that_is_proposed_installs(instance: Instance, channel: TinyChannel) -> None:
    before = image.content(instance.prefix("python3"))
    [result] = instance.run(task(channel, "tool>=2"))
    assert "this would change what the platform provides in python3" in text(result)
    assert "core 1.0 -> 2.0 (tool 2.0 needs core >=2" in text(result)
    assert "lib 1.0 -> 2.0" in text(result)
    assert "request tool=1.0, which changes none of these; or set `allow_platform_changes: true`" in text(result)
    assert image.content(instance.prefix("python3")) == before
    [pasted] = instance.run(task(channel, "tool=1.0"))
    assert pasted.status == "changed"


def test_neither_way_but_permission(instance: Instance, channel: TinyChannel) -> None:
    [result] = instance.run(task(channel, "rigid"))
    assert "core 1.0 -> 2.0 (rigid 1.0 needs core >=2" in text(result)
    assert "changes none of these" not in text(result)
    [allowed] = instance.run(task(channel, "rigid", ", allow_platform_changes: true"))
    assert allowed.status == "changed"
    assert versions(instance.prefix("python3"))["core"] == "2.0"
    known = image.baseline_of(instance.machine, instance.prefix("python3"))
    assert known is not None
    assert Difference("conda", "core", "1.0 0", "2.0 0") in known.permitted
    assert all(one.name != "rigid" for one in known.permitted)
    # What was permitted once is no reason to refuse all that follows.
    [later] = instance.run(task(channel, "plain"))
    assert later.status == "changed"


@pytest.mark.parametrize(
    ("packages", "more", "told"),
    [
        ("core>=2", "", "core 1.0 -> 2.0 (requested: core>=2"),
        ("core", ", state: absent", "core 1.0 -> removed"),
        ("lib", ", state: absent", "lib 1.0 -> removed"),
    ],
)
def test_the_image_stays(instance: Instance, channel: TinyChannel, packages: str, more: str, told: str) -> None:
    before = image.content(instance.prefix("python3"))
    [result] = instance.run(task(channel, packages, more))
    assert told in text(result)
    assert image.content(instance.prefix("python3")) == before


def test_the_newest_that_leaves_it_alone(instance: Instance, channel: TinyChannel) -> None:
    [result] = instance.run(task(channel, "core, tool", ", state: latest"))
    assert [(one.action, one.target, one.after) for one in result.changes] == [("install", "tool", "1.0")]


def test_what_a_user_added_may_go(instance: Instance, channel: TinyChannel) -> None:
    instance.run(task(channel, "plain"))
    [result] = instance.run(task(channel, "plain", ", state: absent"))
    assert [(one.action, one.target) for one in result.changes] == [("remove", "plain")]


def test_ensure_conda_env_is_under_the_guard_too(instance: Instance, channel: TinyChannel) -> None:
    [result] = instance.run(f"""
        - tasks:
            - ensure_conda_env: {{name: python3, packages: [rigid], channels: ['{channel.url}']}}
        """)
    assert "core 1.0 -> 2.0" in text(result)


def test_the_jupyter_server_needs_its_own_word(instance: Instance, channel: TinyChannel) -> None:
    prefix = instance.provide("JupyterSystemEnv", channel.url, "core=1.0")
    playbook = task(channel, "plain").replace("python3", "JupyterSystemEnv")
    with pytest.raises(InvalidPlaybook, match="the environment that the Jupyter server itself runs in"):
        instance.run(playbook)
    instance.run(playbook.replace("env: JupyterSystemEnv", "envs: all"))
    assert versions(prefix) == {"core": "1.0"}
    assert "plain" in versions(instance.prefix("python3"))
    [meant] = instance.run(playbook.replace("{env", "{jupyter_server: true, env"))
    assert meant.status == "changed"


# -------------------------------------------------------------------------------------------- inconsistent environments


def test_what_an_inconsistent_environment_lacks_is_brought_back(instance: Instance, channel: TinyChannel) -> None:
    next(instance.prefix("python3").glob("conda-meta/core-*.json")).unlink()
    [result] = instance.run(task(channel, "plain"))
    assert result.status == "changed"
    assert versions(instance.prefix("python3")) == {"core": "1.0", "lib": "1.0", "plain": "1.0"}


def test_what_is_inconsistent_is_told_and_left_alone(instance: Instance, channel: TinyChannel) -> None:
    next(instance.prefix("python3").glob("conda-meta/core-*.json")).unlink()
    channel.drop("core")
    channel.add("free", "1.0")
    [result] = instance.run(task(channel, "free"))
    assert result.status == "changed"
    assert versions(instance.prefix("python3")) == {"lib": "1.0", "free": "1.0"}
    assert "the environment is inconsistent: lib lacks core 1.*; left as it is" in result.warnings
    [touching] = instance.run(task(channel, "plain"))
    assert "inconsistent: lib lacks core 1.*" in text(touching)


def test_a_wrong_version_of_what_is_needed(instance: Instance, channel: TinyChannel) -> None:
    """As images come: something was put in place by force."""
    record = next(instance.prefix("python3").glob("conda-meta/lib-*.json"))
    record.write_text(record.read_text().replace("core 1.*", "core 2.*"))
    channel.drop("lib")
    [result] = instance.run(task(channel, "plain"))
    assert result.status == "changed"
    assert versions(instance.prefix("python3")) == {"core": "1.0", "lib": "1.0", "plain": "1.0"}
    assert "the environment is inconsistent: lib lacks core 2.*; left as it is" in result.warnings


def test_no_such_environment(instance: Instance, channel: TinyChannel) -> None:
    with pytest.raises(TaskFailed, match="is not a conda environment"):
        planned(EnsureCondaPkg(env="/nowhere/at/all", packages="plain", channels=channel.url), instance.machine)
