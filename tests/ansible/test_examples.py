"""Every example of the collection's documentation is run by Ansible: by the newest ansible-core.

The tasks run where tests/reference/test_examples.py runs them by nbprovision itself; its scene has what they name.
"""

from __future__ import annotations

import subprocess
import sysconfig
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.ansible.conftest import environment
from tests.ansible.test_generated import COLLECTION, FILES, assigned
from tests.conftest import Channel
from tests.reference.test_examples import CATALOGUE, ENVIRONMENTS, Scene, check
from tests.support import moto_server
from tests.support.ansible_controller import NAMESPACE, Controller
from tests.support.notebook_instances import REGION, Account
from tests.support.r_repository import HAS_R

pytestmark = [
    pytest.mark.proof,
    pytest.mark.network,
    pytest.mark.engine,
    pytest.mark.kernel,
    pytest.mark.sampled(3),
]

FOLDER = "/home/ec2-user/SageMaker"  # of the examples
KINDS = [Path(name).stem for name in FILES if name.startswith("plugins/modules/")]
# What a kind's examples leave that others must not see.
LEFT = {"ensure_pip_index": "envs/*/pip.conf*", "ensure_condarc": "envs/*/.condarc"}


def examples(plugin: str) -> str:
    """The examples of a module or an inventory, as they are written."""
    for node in (COLLECTION / "plugins" / plugin).read_text().split('EXAMPLES = r"""')[1:]:
        return node.partition('"""')[0]
    raise AssertionError(plugin)


@pytest.fixture(scope="module")
def scene(tmp_path_factory: pytest.TempPathFactory, channel: Channel, shared_cache: Path) -> Scene:
    """Where the environments are that examples name."""
    made = Scene(tmp_path_factory.mktemp("examples"), channel, shared_cache)
    check(made, ENVIRONMENTS)
    return made


def controller_of(scene: Scene, cache: Path, collections: Path, folder: Path) -> Controller:
    env = {
        **scene.env,
        "PATH": f"{scene.env['PATH']}:{sysconfig.get_path('scripts')}",  # its own `aws` comes first
        "ANSIBLE_COLLECTIONS_PATH": str(collections),
    }
    return Controller(environment(cache, "newest"), folder, env)


@pytest.mark.parametrize("kind", [kind for kind in KINDS if not CATALOGUE[kind].handler_only])
def test_the_examples_of_tasks(
    kind: str,
    request: pytest.FixtureRequest,
    tmp_path: Path,
    channel: Channel,
    shared_cache: Path,
    collections: Path,
) -> None:
    """They come about, and the second time each is ok."""
    if kind == "ensure_r_pkg" and not HAS_R:
        pytest.skip("there is no R here: apt-get install r-base-core")
    options = assigned(FILES[f"plugins/modules/{kind}.py"], "DOCUMENTATION")["options"]
    alone = not options.keys() & {"env", "envs", "prefix"}  # it names no environment
    scene = Scene(tmp_path / "scene", channel, shared_cache) if alone else request.getfixturevalue("scene")
    controller = controller_of(scene, shared_cache, collections, tmp_path)
    text = scene.here(examples(f"modules/{kind}.py")).replace(FOLDER, str(scene.folder))
    name = f"{NAMESPACE}.{kind}"
    tasks = [{kind: task[name]} for task in yaml.safe_load(text)]
    twice = [task for task in tasks for _ in range(2)]
    results = controller.play(twice)
    for number, (task, result) in enumerate(zip(twice, results, strict=True)):
        assert not result["failed"], f"{task}: {result}"
        assert number % 2 == 0 or result["status"] == "ok", f"{task}: {result}"
    if kind in LEFT:
        for path in (Path(scene.env["HOME"], ".condarc"), *Path(scene.env["NBPROVISION_HOME"]).glob(LEFT[kind])):
            path.unlink(missing_ok=True)


def test_the_examples_of_playbook_and_task(
    tmp_path: Path, channel: Channel, shared_cache: Path, collections: Path
) -> None:
    scene = Scene(tmp_path / "scene", channel, shared_cache)
    controller = controller_of(scene, shared_cache, collections, tmp_path)
    (tmp_path / "team.yml").write_text(
        "- tasks:\n    - name: Packages\n      ensure_venv: {name: a, packages: [idna]}\n"
    )
    lock = [Path(sysconfig.get_path("scripts"), "nbprovision"), "lock", "team.yml"]
    subprocess.run(lock, env=controller.env, cwd=tmp_path, check=True, capture_output=True)
    tasks: list[dict[str, Any]] = yaml.safe_load(examples("modules/playbook.py") + examples("modules/task.py"))
    tasks = [{key: value for key, value in task.items() if key != "name"} for task in tasks]
    for task, result in zip(tasks, controller.play(tasks, "--extra-vars", "vault_token=secret"), strict=True):
        assert not result["failed"], f"{task}: {result}"


@pytest.fixture(scope="module")
def account() -> Iterator[Account]:
    """The instances that examples name."""
    with moto_server.serving(states=True) as address:
        account = Account(address)
        account.add_config("fraud-stable-r3")
        account.add_config("fraud-stable-r4")
        for number in range(5):
            tags = {"team": "fraud", "ring": "stable", "owner": "anna"}
            account.add_instance(f"fraud-{number}", "fraud-stable-r3", tags)
        yield account


@pytest.fixture
def of_instances(
    account: Account, shared_cache: Path, collections: Path, tmp_path: Path, env: dict[str, str]
) -> Controller:
    """A controller with the profile that examples name."""
    (tmp_path / "aws.ini").write_text("[profile notebooks]\naws_access_key_id = a\naws_secret_access_key = a\n")
    env = {**env, **account.env(), "ANSIBLE_COLLECTIONS_PATH": str(collections)}
    env["AWS_CONFIG_FILE"] = str(tmp_path / "aws.ini")
    return Controller(environment(shared_cache, "newest"), tmp_path, env)


@moto_server.NEEDED
def test_the_examples_of_instances(of_instances: Controller, tmp_path: Path) -> None:
    texts = examples("inventory/instances.py").replace("/tmp/notebook-inventory", str(tmp_path / "kept"))
    for text in texts.replace("region: eu-west-1", f"region: {REGION}").split("---\n"):
        path = tmp_path / text.split()[1].rstrip(":")
        path.write_text(text)
        document = of_instances.inventory(path)
        assert "Failed to parse" not in of_instances.output
        names = document.get("notebook_instances", {}).get("hosts", [])
        assert len(names) == (0 if "status: Failed" in text else 5), text
        assert "ring: prefix" not in text or document["ring_stable"]["hosts"] == names


@moto_server.NEEDED
def test_the_examples_of_wave(of_instances: Controller, account: Account, tmp_path: Path) -> None:
    inventory = tmp_path / "all.notebook_instances.yml"
    inventory.write_text(f"plugin: {NAMESPACE}.instances\n")
    plays = yaml.safe_load(examples("modules/wave.py").replace("region: eu-west-1", f"region: {REGION}"))
    plays[0]["tasks"][0][f"{NAMESPACE}.wave"]["interval"] = 0
    for number, play in enumerate(plays):
        path = tmp_path / f"play-{number}.yml"
        path.write_text(yaml.safe_dump([play]))
        assert of_instances.playbook(path, "-i", str(inventory)), of_instances.output
    assert set(account.states().values()) == {("InService", "fraud-stable-r4")}
