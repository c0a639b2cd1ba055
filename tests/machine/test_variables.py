"""Facts that templates know: each found out when it is asked for, each with what it was read from."""

from __future__ import annotations

import json
import os
import platform
import pwd
from pathlib import Path

import pytest

from nbprovision.machine.machine import Machine
from nbprovision.machine.variables import all_facts

ARN = "arn:aws:sagemaker:eu-west-1:123456789012:notebook-instance/mine"
REFERENCE = Path(__file__).parents[2] / "docs" / "reference.md"


@pytest.fixture
def instance(env: dict[str, str], tmp_path: Path) -> Machine:
    """A notebook instance with two environments of its image and one on its volume, a kernel, and a GPU."""
    root = tmp_path / "root"
    anaconda = root / "home/ec2-user/anaconda3"
    for prefix in (anaconda, *(anaconda / "envs" / name for name in ("JupyterSystemEnv", "pytorch"))):
        (prefix / "conda-meta").mkdir(parents=True)
    (root / "home/ec2-user/SageMaker/envs/fraud/conda-meta").mkdir(parents=True)
    (root / "etc").mkdir()
    metadata = root / "opt/ml/metadata"
    metadata.mkdir(parents=True)
    (metadata / "resource-metadata.json").write_text(json.dumps({"ResourceArn": ARN, "ResourceName": "mine"}))
    (root / "etc/os-release").write_text('NAME="Amazon Linux"\nID="amzn"\nVERSION_ID="2023"\n')
    (root / "dev").mkdir()
    (root / "dev/nvidia0").write_text("")
    kernel = Path(env["HOME"]) / ".local/share/jupyter/kernels/fraud"
    kernel.mkdir(parents=True)
    (kernel / "kernel.json").write_text(json.dumps({"argv": ["x"], "display_name": "Fraud"}))
    pip = Path(env["HOME"]) / ".config/pip"
    pip.mkdir(parents=True)
    (pip / "pip.conf").write_text("[global]\nindex-url = https://mirror.example/simple\n")
    plain = {name: value for name, value in env.items() if "INDEX" not in name}
    return Machine(plain, root=root)


def test_every_fact_is_what_is_there(instance: Machine) -> None:
    root, volume = instance.root, instance.root / "home/ec2-user/SageMaker"
    assert dict(instance.variables()) == {
        "platform": "notebook-instance",
        "instance": {
            "name": "mine",
            "arn": ARN,
            "region": "eu-west-1",
            "account": "123456789012",
            "domain": "",
            "space": "",
            "user_profile": "",
            "app_type": "",
        },
        "tags": {},
        "volume": str(volume),
        "home": str(instance.home),
        "user": pwd.getpwuid(os.getuid()).pw_name,
        "user_home": instance.env["HOME"],
        "envs": ["base", "pytorch", "fraud"],
        "prefixes": {
            "base": str(root / "home/ec2-user/anaconda3"),
            "pytorch": str(root / "home/ec2-user/anaconda3/envs/pytorch"),
            "fraud": str(volume / "envs/fraud"),
        },
        "kernels": ["fraud"],
        "conda": str(root / "home/ec2-user/anaconda3"),
        "index_url": "https://mirror.example/simple",
        "gpu": True,
        "cpus": os.cpu_count(),
        "architecture": platform.machine(),
        "distribution": "amzn",
        "distribution_version": "2023",
        "python": platform.python_version(),
        "version": __import__("nbprovision").__version__,
    }


def test_studio_has_names_of_its_own(instance: Machine) -> None:
    arn = "arn:aws:sagemaker:eu-west-1:123456789012:app/d-1/fraud/JupyterLab/default"
    path = instance.root / "opt/ml/metadata/resource-metadata.json"
    content = {
        "AppType": "JupyterLab",
        "DomainId": "d-1",
        "SpaceName": "fraud",
        "ResourceArn": arn,
        "ResourceName": "default",
    }
    path.write_text(json.dumps(content))
    fact = instance.variables()["instance"]
    assert fact == {
        "name": "default", "arn": arn, "region": "eu-west-1", "account": "123456789012",
        "domain": "d-1", "space": "fraud", "user_profile": "", "app_type": "JupyterLab",
    }  # fmt: skip


@pytest.mark.parametrize("content", ["", "[]", '{"ResourceArn": 1, "ResourceName": ["x"]}', '{"ResourceArn": "arn:x"}'])
def test_strange_metadata_is_no_crash(instance: Machine, content: str) -> None:
    (instance.root / "opt/ml/metadata/resource-metadata.json").write_text(content)
    fact = instance.variables()["instance"]
    assert all(isinstance(value, str) for value in fact.values())
    assert fact["account"] == ""


def test_a_bare_machine_has_them_all_too(machine: Machine) -> None:
    found = dict(machine.variables())
    assert (found["platform"], found["envs"], found["kernels"], found["conda"]) == ("other", [], [], None)
    assert found["distribution"] == ""


def test_only_what_is_asked_for_is_read(instance: Machine) -> None:
    """Each fact names what it was read from, so that the next run can tell whether it still holds."""
    looked_at: dict[Path, bool] = {}
    facts = instance.variables(looked_at)
    assert facts["user"]
    assert looked_at == {}
    assert facts["gpu"]
    assert looked_at == {instance.root / "dev/nvidiactl": False, instance.root / "dev/nvidia0": True}
    assert "conda" not in instance.__dict__
    assert facts["envs"]
    assert looked_at[instance.root / "home/ec2-user/SageMaker/envs"]


def test_a_fact_stays_as_it_was_at_first(instance: Machine) -> None:
    """As in Ansible: what a run makes does not change what a template further down means."""
    facts = instance.variables()
    before = facts["kernels"]
    (Path(instance.env["HOME"]) / ".local/share/jupyter/kernels/fraud/kernel.json").unlink()
    assert facts["kernels"] == before == ["fraud"]
    assert instance.variables()["kernels"] == []


def test_the_reference_tells_of_every_fact() -> None:
    text = REFERENCE.read_text()
    for name, fact in all_facts().items():
        assert f"| `nb.{name}` | {fact.description} |\n" in text
