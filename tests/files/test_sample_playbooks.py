"""The playbooks in ``playbooks/samples``: what they leave, as other programs see it; the second run; a restart."""

from __future__ import annotations

import hashlib
import json
import re
import shutil
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from nbprovision.catalogue import Catalogue
from nbprovision.engine.session import Request, Session
from nbprovision.machine.machine import Machine
from nbprovision.machine.platform import Platform
from nbprovision.report.document import Silent
from tests.machine.test_aws import Cloud, cloud, server
from tests.machine.test_tags import known
from tests.support import moto_server
from tests.support.authority_file import AUTHORITY
from tests.support.file_server import FileServer
from tests.support.git_repositories import Origin, git
from tests.support.pip_environment import venv
from tests.support.r_repository import Repository, environment, needs_r, version_in
from tests.support.wheels import make_wheel

pytestmark = pytest.mark.sampled(2)

__all__ = ["cloud", "server"]
ROOT = Path(__file__).parents[2]


def run(name: str, machine: Machine, *, check: bool = False, **variables: Any) -> list[tuple[str, str]]:
    """Status and proof of the tasks of a playbook of the repository."""
    playbook = ROOT / "playbooks/samples" / name
    request = Request(playbook=playbook, extra_vars=variables, selection=(str(variables),), check=check)
    results, _ = Session(request, machine, Catalogue()).perform(Silent(), lambda _text: None)
    return [(result.status, result.proof) for result in results]


def test_no_kernel_starts_with_a_notebook(env: dict[str, str], home: Path) -> None:
    """As after AWS's sample script, which writes the file whole; here what the user disabled stays."""
    path = home / ".jupyter/labconfig/page_config.json"
    path.parent.mkdir(parents=True)
    path.write_text('{\n    "disabledExtensions": {\n        "@x/y": true\n    }\n}\n')
    assert run("disable-automatic-kernel-start.yml", Machine(env)) == [("changed", "check")]
    assert (
        path.read_text()
        == '{\n    "disabledExtensions": {\n        "@x/y": true\n    },\n    "notebookStartsKernel": false\n}\n'
    )
    assert run("disable-automatic-kernel-start.yml", Machine(env)) == [("ok", "witness")]
    assert run("disable-automatic-kernel-start.yml", Machine(env), starts_kernel="true") == [("changed", "check")]
    assert json.loads(path.read_text())["notebookStartsKernel"] is True
    path.unlink()  # as a restart does
    assert run("disable-automatic-kernel-start.yml", Machine(env)) == [("changed", "check")]
    assert json.loads(path.read_text()) == {"notebookStartsKernel": False}


def test_settings_of_the_code_editor(env: dict[str, str], home: Path) -> None:
    path = home / "settings.json"
    path.write_text(
        '{\n\t// mine\n\t"editor.fontSize": 11, // small\n\t"python.pythonPath": "/old",\n\t"[python]": {"editor.tabSize": 4},\n}\n'
    )
    assert run("code-editor-settings.yml", Machine(env), settings=str(path), python="/py")[1:2] == [
        ("changed", "check")
    ]
    text = path.read_text()
    assert (
        '\t// mine\n\t"editor.fontSize": 11, // small\n\t"[python]": {"editor.tabSize": 4, "editor.rulers": [120]},\n'
        in text
    )
    assert "pythonPath" not in text
    assert run("code-editor-settings.yml", Machine(env), settings=str(path), python="/py")[1:2] == [("ok", "witness")]


def restarted(home: Path) -> None:
    """All of the home is new."""
    home.rename(home.with_name("gone"))
    home.mkdir()


PROXY = "http://proxy.example:3128"
PRINT = "import os; print(os.environ['https_proxy'], os.environ['NO_PROXY'])"
DIRECT = "169.254.169.254,169.254.170.2,localhost,127.0.0.1,.amazonaws.com"


def test_a_proxy_reaches_kernels_and_terminals(env: dict[str, str], home: Path) -> None:
    """As Jupyter, which executes its configuration, and a login shell see it."""
    env["NBPROVISION_PHASE"] = "on-start"
    for state in ("changed", "ok"):
        assert [status for status, _ in run("proxy.yml", Machine(env))][:2] == [state, state]
        config = f"exec(open({str(home / '.jupyter/jupyter_config.py')!r}).read()); {PRINT}"
        for command in ([sys.executable, "-c", config], ["bash", "-lc", f'{sys.executable} -c "{PRINT}"']):
            shown = subprocess.check_output(command, env={"HOME": str(home), "PATH": env["PATH"]}, text=True)
            assert shown.split() == [PROXY, DIRECT]
    restarted(home)
    assert [status for status, _ in run("proxy.yml", Machine(env))][:2] == ["changed", "changed"]


def test_a_repository_is_cloned_once_and_local_work_stays(env: dict[str, str], home: Path, tmp_path: Path) -> None:
    origin = Origin(tmp_path / "origin")
    folder = home / "SageMaker/models"
    variables = {"repository": origin.url, "folder": str(folder)}
    assert run("git-clone-repo.yml", Machine(env), **variables) == [("changed", "check")]
    assert git(folder, "rev-parse", "HEAD") == origin.run("rev-parse", "HEAD")
    (folder / "mine.txt").write_text("work")
    assert run("git-clone-repo.yml", Machine(env), **variables)[0][0] == "ok"
    assert (folder / "mine.txt").read_text() == "work"
    shutil.rmtree(folder)
    assert run("git-clone-repo.yml", Machine(env), **variables) == [("changed", "check")]


def test_fips_of_openssl(env: dict[str, str], home: Path) -> None:
    """On the file that conda's openssl brings; openssl itself reads the result."""
    prefix = home / "prefix"
    path = prefix / "ssl/openssl.cnf"
    path.parent.mkdir(parents=True)
    path.write_text(
        "# head\nHOME = .\nopenssl_conf = openssl_init\n# .include fipsmodule.cnf\n\n[openssl_init]\nproviders = provider_sect\n\n"
        "[provider_sect]\ndefault = default_sect\n# fips = fips_sect\n\n[default_sect]\n# activate = 1\n\n[ req ]\ndefault_bits = 2048\n"
    )
    (prefix / "ssl/fipsmodule.cnf").write_text("[fips_sect]\nactivate = 0\n")
    assert run("enable-fips-openssl-provider.yml", Machine(env), prefixes=[str(prefix)]) == [("changed", "check")] * 2
    text = path.read_text()
    assert f"\n.include {prefix}/ssl/fipsmodule.cnf\n" in text
    assert "[ req ]\ndefault_bits = 2048\n" in text
    assert all(
        len(re.findall(rf"^\[ ?{name} ?\]$", text, re.MULTILINE)) == 1
        for name in ("openssl_init", "provider_sect", "default_sect", "algorithm_sect")
    )
    listed = subprocess.run(
        ["openssl", "list", "-providers"],
        env={"PATH": "/usr/bin", "OPENSSL_CONF": str(path)},
        capture_output=True,
        text=True,
        check=True,
    )
    assert "default" in listed.stdout
    assert run("enable-fips-openssl-provider.yml", Machine(env), prefixes=[str(prefix)]) == [("ok", "witness")] * 2
    assert path.read_text() == text


def test_samples_of_roots_are_compared_only(env: dict[str, str], tmp_path: Path) -> None:
    """On a made-up machine; tests/container has what root's part makes of them."""
    root = tmp_path / "root"
    agent = root / "opt/aws/amazon-cloudwatch-agent/etc/amazon-cloudwatch-agent.d/file_amazon-cloudwatch-agent.json"
    for path, text in (
        (root / "var/lib/dpkg/status", "Package: amazon-ssm-agent\nStatus: install ok installed\n"),
        (root / "etc/docker/daemon.json", "{}\n"),
        (agent, '{"logs": {"logs_collected": {}}}\n'),
    ):
        path.parent.mkdir(parents=True)
        path.write_text(text)
    before = {path: path.read_bytes() for path in root.rglob("*") if path.is_file()}
    for name, statuses in {
        "docker-data-root.yml": ["skipped", "skipped"],
        "disable-uninstall-ssm-agent.yml": ["ok", "skipped", "skipped"],
        "publish-instance-metrics.yml": ["skipped", "skipped"],
    }.items():
        assert [status for status, _ in run(name, Machine(env, root=root))] == statuses
    assert {path: path.read_bytes() for path in root.rglob("*") if path.is_file()} == before


@needs_r
def test_r_packages(env: dict[str, str], home: Path, tmp_path: Path) -> None:
    """In the image's R, which a restart resets; R itself loads the package."""
    image = tmp_path / "root/home/ec2-user/anaconda3"
    repository = Repository(tmp_path / "cran")
    repository.add("apple", "1.0", index=False)
    repository.add("pear", "1.0", Imports="apple")
    (image / "conda-meta").mkdir(parents=True)
    (image / "conda-meta/history").touch()
    (tmp_path / "root/home/ec2-user/SageMaker").mkdir()
    variables = {"env": "R", "packages": ["pear"], "repository": str(repository.folder)}
    for start in range(2):
        shutil.rmtree(image / "envs/R", ignore_errors=True)
        prefix = environment(image / "envs/R")
        for status in ("changed", "ok"):
            results = run("install-r-package.yml", Machine(env, root=tmp_path / "root"), **variables)
            assert [state for state, _ in results] == ["skipped", status, "skipped"], start
            assert version_in(prefix / "lib/R/library", "pear") == "1.0"


def git_says(home: Path, *words: str) -> str:
    """What git's configuration of the user has; empty for nothing."""
    env = {"HOME": str(home), "PATH": "/usr/bin:/bin", "GIT_CONFIG_NOSYSTEM": "1"}
    done = subprocess.run(["git", "config", "--global", *words], env=env, capture_output=True, text=True, check=False)
    return done.stdout.rstrip("\n")


def test_the_author_of_commits(env: dict[str, str], home: Path) -> None:
    (home / ".gitconfig").write_text("# mine\n[alias]\n\tst = status\n[user]\n\temail = old@example.org\n")
    variables = {"author": 'Ada "the first" Lovelace', "email": "ada@example.org"}
    for state in ("changed", "ok"):
        assert [status for status, _ in run("set-git-config.yml", Machine(env), **variables)] == [
            state,
            state,
            "skipped",
            "skipped",
        ]
        assert git_says(home, "user.name") == 'Ada "the first" Lovelace'
        assert git_says(home, "--get-all", "user.email") == "ada@example.org"
        assert git_says(home, "alias.st") == "status"
    restarted(home)
    assert [status for status, _ in run("set-git-config.yml", Machine(env), **variables)][:2] == ["changed", "changed"]


def test_repositories_of_another_account(env: dict[str, str], home: Path) -> None:
    """As the real aws command reads the profile, and git the helper: for the servers of CodeCommit alone."""
    (home / ".aws").mkdir()
    (home / ".aws/config").write_text("# mine\n[default]\nregion = eu-west-1\n")
    (home / ".gitconfig").write_text("[credential]\n\thelper = cache\n")
    name, role = "set-codecommit-cross-account-access.yml", "arn:aws:iam::111122223333:role/Contributor"
    profile, address = "CrossAccountAccessProfile", "https://git-codecommit.us-east-1.amazonaws.com/v1/repos/fraud"
    for state in ("changed", "ok"):
        assert [status for status, _ in run(name, Machine(env), role=role)] == [state] * 3
        for key, value in (("role_arn", role), ("credential_source", "Ec2InstanceMetadata"), ("region", "us-east-1")):
            words = [moto_server.AWS, "configure", "get", key, "--profile", profile]
            shown = subprocess.check_output(words, env={"HOME": str(home), "PATH": env["PATH"]}, text=True)
            assert shown == f"{value}\n"
        assert (home / ".aws/config").read_text().startswith("# mine\n[default]\nregion = eu-west-1\n")
        helper = f"!aws --profile {profile} --region us-east-1 codecommit credential-helper $@"
        assert git_says(home, "--get-urlmatch", "credential.helper", address) == helper
        assert git_says(home, "--get-urlmatch", "credential.useHttpPath", address) == "true"
        assert git_says(home, "--get-urlmatch", "credential.helper", "https://github.com/acme/models") == "cache"
    restarted(home)
    assert [status for status, _ in run(name, Machine(env), role=role)] == ["changed"] * 3


def test_a_cluster_for_notebooks(env: dict[str, str], home: Path) -> None:
    path = home / ".sparkmagic/config.json"
    path.parent.mkdir()
    path.write_text(
        '{"kernel_python_credentials": {"url": "http://localhost:8998"}, "wait_for_idle_timeout_seconds": 15}\n'
    )
    for state in ("changed", "ok"):
        assert [status for status, _ in run("connect-emr-cluster.yml", Machine(env), cluster="10.0.0.1")] == [state]
        config = json.loads(path.read_text())
        assert config["wait_for_idle_timeout_seconds"] == 15
        for language in ("python", "scala", "r"):
            assert config[f"kernel_{language}_credentials"] == {
                "username": "", "password": "", "auth": "None", "url": "http://10.0.0.1:8998",
            }  # fmt: skip
    restarted(home)
    assert run("connect-emr-cluster.yml", Machine(env), cluster="10.0.0.1") == [("changed", "check")]


@moto_server.NEEDED
def test_a_variable_from_a_tag(env: dict[str, str], home: Path, cloud: Cloud, machine: Machine) -> None:
    """What may be in a tag is never run: not by a login shell, not by Jupyter."""
    hostile = "fraud $(touch ~/won) `touch ~/won` \"'; touch ~/won"
    cloud.aws(
        "sagemaker", "create-notebook-instance", "--notebook-instance-name", "mine", "--instance-type", "ml.t3.medium",
        "--role-arn", "arn:aws:iam::123456789012:role/notebook",
        "--tags", json.dumps({"Key": "TEAM", "Value": hostile}),
    )  # fmt: skip
    machine.env["NBPROVISION_PHASE"] = "on-start"
    known(machine)
    show = "import os; print(os.environ['TEAM'])"
    for state in ("changed", "ok"):
        fresh = Machine(machine.env, home=machine.home, root=machine.root)
        assert [status for status, _ in run("set-env-variable.yml", fresh)][:2] == [state, state]
        config = f"exec(open({str(home / '.jupyter/jupyter_config.py')!r}).read()); {show}"
        for command in ([sys.executable, "-c", config], ["bash", "-lc", f'{sys.executable} -c "{show}"']):
            shown = subprocess.check_output(command, env={"HOME": str(home), "PATH": env["PATH"]}, text=True)
            assert shown == f"{hostile}\n"
        assert not (home / "won").exists()
    fresh = Machine(machine.env, home=machine.home, root=machine.root)
    assert [status for status, _ in run("set-env-variable.yml", fresh, tag="missing")][:2] == ["skipped", "skipped"]


@pytest.fixture
def bucket(env: dict[str, str], tmp_path: Path) -> Iterator[str]:
    """The address of S3 on this machine, with an object in a bucket; `aws` is the real command."""
    with moto_server.serving() as address:
        moto_server.put(address, "backups", "old/notebook", b"work")
        moto_server.make_command(tmp_path / "bin", address)
        env["PATH"] = f"{tmp_path}/bin:{env['PATH']}"
        yield address


@moto_server.NEEDED
def test_files_of_an_instance_reach_another_one(env: dict[str, str], home: Path, bucket: str) -> None:
    folder = home / "SageMaker"
    variables = {"bucket": "backups", "owner": "123456789012", "folder": str(folder)}
    restore = {**variables, "snapshot": "old"}
    assert run("migrate-ebs-data-sync.yml", Machine(env), **restore) == [("changed", "check")]
    assert (folder / "notebook").read_text() == "work"
    (folder / "notebook").write_text("newer work")
    assert run("migrate-ebs-data-sync.yml", Machine(env), **restore)[0][0] == "ok"
    assert (folder / "notebook").read_text() == "newer work"
    send = {**variables, "snapshot": "new"}
    (folder / "envs").mkdir()
    (folder / "envs/python").write_text("not sent")
    (folder / "outside").symlink_to("/etc")
    assert run("migrate-ebs-data-backup.yml", Machine(env), **send) == [("changed", "check")]
    listing = urllib.request.urlopen(f"{bucket}/backups?list-type=2&prefix=new/", timeout=30).read().decode()
    assert re.findall("<Key>(.*?)</Key>", listing) == ["new/notebook"]
    aws = str(shutil.which("aws", path=env["PATH"]))
    assert subprocess.check_output([aws, "s3", "cp", "s3://backups/new/notebook", "-"]) == b"newer work"
    assert run("migrate-ebs-data-backup.yml", Machine(env), **send)[0][0] == "ok"


@moto_server.NEEDED
def test_a_folder_outlives_its_space(env: dict[str, str], home: Path, bucket: str) -> None:
    folder = home / "work"
    variables = {"bucket": "backups", "user": "ada", "owner": "123456789012", "folder": str(folder)}
    first = [status for status, _ in run("studio-backup-restore.yml", Machine(env), **variables)]
    assert first == ["ok", "changed", "changed"]
    (folder / "tool").write_text("#!/bin/sh\n")
    (folder / "tool").chmod(0o755)
    shutil.rmtree(Path(env["NBPROVISION_HOME"]) / "s3")  # a later start
    again = [status for status, _ in run("studio-backup-restore.yml", Machine(env), **variables)]
    assert again == ["ok", "ok", "changed"]
    restarted(home)
    shutil.rmtree(Path(env["NBPROVISION_HOME"]))  # a new space
    restored = [status for status, _ in run("studio-backup-restore.yml", Machine(env), **variables)]
    assert restored[:2] == ["changed", "ok"]
    assert subprocess.run([folder / "tool"], check=False).returncode == 0


def test_a_clone_of_a_space_lies_in_its_home(env: dict[str, str], home: Path, tmp_path: Path) -> None:
    origin = Origin(tmp_path / "origin")
    machine = Machine(env)
    machine.platform = Platform("studio", "a test", home)
    assert run("git-clone-repo.yml", machine, repository=origin.url) == [("changed", "check")]
    assert git(home / "models", "rev-parse", "HEAD") == origin.run("rev-parse", "HEAD")


def test_settings_of_studios_code_editor(env: dict[str, str], home: Path, tmp_path: Path) -> None:
    """The image's come first, and the interpreter is set in the image's file, which Studio copies over the home's."""
    image = tmp_path / "image"
    (image / "User").mkdir(parents=True)
    (image / "Machine").mkdir()
    (image / "User/settings.json").write_text('{"extensions.autoUpdate": false}')
    (image / "Machine/settings.json").write_text('{"python.defaultInterpreterPath": "/opt/conda/bin/python"}')
    metadata = tmp_path / "root/opt/ml/metadata/resource-metadata.json"
    metadata.parent.mkdir(parents=True)
    metadata.write_text('{"DomainId": "d-1", "SpaceName": "s", "AppType": "CodeEditor"}')
    for state in ("changed", "ok"):
        machine = Machine(env, root=tmp_path / "root")
        results = run("code-editor-settings.yml", machine, image=str(image), python="/team/python")
        assert [status for status, _ in results] == [state] * 3
    settings = json.loads((home / "sagemaker-code-editor-server-data/data/User/settings.json").read_text())
    assert settings["extensions.autoUpdate"] is False
    assert settings["[python]"] == {"editor.rulers": [120]}
    assert json.loads((image / "Machine/settings.json").read_text()) == {
        "python.defaultInterpreterPath": "/team/python"
    }


PASSWORD = "hunter22-of-the-test"


@moto_server.NEEDED
def test_git_gets_a_password_from_aws_for_one_host_and_one_user(
    env: dict[str, str], home: Path, tmp_path: Path
) -> None:
    """Through the real `aws` and git; a value that a shell would take for more than text stays text."""
    user = f"ada's;touch {tmp_path}/won"

    def asked(host: str, *more: str) -> subprocess.CompletedProcess[str]:
        words = "".join(f"{line}\n" for line in ("protocol=https", f"host={host}", *more, ""))
        return subprocess.run(
            ["git", "credential", "fill"], input=words, env=env, cwd=home, capture_output=True, text=True, timeout=120
        )

    with moto_server.serving() as address:
        env.update(AWS_ENDPOINT_URL=address, AWS_ACCESS_KEY_ID="testing", AWS_SECRET_ACCESS_KEY="testing")
        env.update(PATH=f"{moto_server.AWS.parent}:{env['PATH']}", NO_PROXY="127.0.0.1", GIT_TERMINAL_PROMPT="0")
        secret = ["--region", "eu-west-1", "secretsmanager", "create-secret", "--name", "team/git", "--secret-string"]
        subprocess.run([moto_server.AWS, *secret, json.dumps({"token": PASSWORD})], env=env, check=True, timeout=120)
        variables = {
            "author": "Ada's twin", "email": "ada@example.org", "git_host": "git.example", "git_user": user,
            "secret_id": "team/git", "secret_key": "token", "region": "eu-west-1",
        }  # fmt: skip
        (home / ".gitconfig").write_text("[core]\n\teditor = nano\n[credential]\n\thelper = store\n")
        for state in ("changed", "ok"):
            assert [status for status, _ in run("set-git-config.yml", Machine(env), **variables)] == [state] * 4
        assert asked("git.example").stdout.splitlines()[2:] == [f"username={user}", f"password={PASSWORD}"]
        for other in (asked("other.example"), asked("git.example", "username=eve")):
            assert other.returncode != 0
            assert PASSWORD not in other.stdout + other.stderr
        subprocess.run(
            ["git", "credential", "approve"], env=env, cwd=home, check=True, text=True,
            input=f"protocol=https\nhost=git.example\nusername={user}\npassword={PASSWORD}\n\n",
        )  # fmt: skip
        variables["secret_key"] = "missing"
        run("set-git-config.yml", Machine(env), **variables)
        refused = asked("git.example")
        assert "the secret is not a JSON object with the key 'missing'" in refused.stderr
        assert PASSWORD not in refused.stdout + refused.stderr
    assert not (tmp_path / "won").exists()
    assert [path for path in home.rglob("*") if path.is_file() and PASSWORD in path.read_text(errors="replace")] == []
    assert subprocess.check_output(["git", "config", "user.name"], env=env, cwd=home, text=True) == "Ada's twin\n"


def test_packages_for_notebooks(env: dict[str, str], tmp_path: Path) -> None:
    wheel = make_wheel(tmp_path / "wheels", "apple", "1.0")
    prefix = venv(tmp_path / "venv")
    variables = {"packages": [f"apple @ {wheel.as_uri()}"], "envs": [str(prefix)]}
    for state in ("changed", "ok"):
        ((status, _),) = run("install-pip-packages.yml", Machine(env), **variables)
        assert status == state
    assert (
        subprocess.check_output([prefix / "bin/python", "-c", "import apple; print(apple.version)"], text=True)
        == "1.0\n"
    )


def test_extensions_that_are_switched_off_go_by_their_names(env: dict[str, str], home: Path, tmp_path: Path) -> None:
    """Beside the server that is on the PATH."""
    data = "team_tool-1.0.data/data/share/jupyter/labextensions/@team/tool/package.json"
    wheel = make_wheel(tmp_path / "wheels", "team-tool", "1.0", files={data: json.dumps({"name": "@team/tool"})})
    prefix = venv(tmp_path / "jupyter")
    (prefix / "bin/jupyter").write_text("#!/bin/sh\n")
    (prefix / "bin/jupyter").chmod(0o755)
    env.update(PATH=f"{prefix}/bin:{env['PATH']}", NBPROVISION_PHASE="on-start")
    variables = {"packages": [f"team-tool @ {wheel.as_uri()}"], "disabled": ["@team/other"]}
    for state in ("changed", "ok"):
        results = run("install-extensions.yml", Machine(env), **variables)
        assert [status for status, _ in results][:2] == [state] * 2
    assert (prefix / "share/jupyter/labextensions/@team/tool/package.json").is_file()
    config = json.loads((home / ".jupyter/labconfig/page_config.json").read_text())
    assert config["disabledExtensions"] == {"@team/other": True}


def test_authorities_of_a_company(env: dict[str, str], home: Path, tmp_path: Path) -> None:
    """As openssl and git see them; what AWS's users do by hand sets one variable."""
    for name in [name for name in env if "CERT" in name or "CA_BUNDLE" in name]:
        del env[name]
    certificate = tmp_path / "company-ca.pem"
    certificate.write_text(AUTHORITY)
    words = {"certificates": [str(certificate)]}
    name = "ca-certificates.yml"
    assert run(name, Machine(env), **words)[1] == ("changed", "check")
    bundle = home / ".local/share/nbprovision/ca-bundle.pem"
    verified = subprocess.run(["openssl", "verify", "-no-CApath", "-CAfile", bundle, certificate], capture_output=True)
    assert verified.stdout.endswith(b"OK\n")
    shown = subprocess.run(["git", "config", "http.sslcainfo"], env=env, capture_output=True, text=True, check=True)
    assert shown.stdout == f"{bundle}\n"
    assert run(name, Machine(env), **words)[1] == ("ok", "witness")
    (home / ".gitconfig").unlink()  # a restart takes more
    bundle.unlink()
    assert run(name, Machine(env), **words)[1] == ("changed", "check")
    assert run(name, Machine(env), **words, whole_machine=[str(certificate)])[0][0] == "skipped", (
        "root's part did not run"
    )


def test_code_server_from_a_release_with_a_checksum(env: dict[str, str], home: Path, tmp_path: Path) -> None:
    """As the system unpacks it, and as Jupyter's own loader of configuration reads the entry."""
    env["NBPROVISION_PHASE"] = "on-start"
    release = tmp_path / "code-server-1.2-linux-amd64/bin"
    release.mkdir(parents=True)
    (release / "code-server").write_text("#!/bin/sh\necho code-server $1\n")
    (release / "code-server").chmod(0o755)
    archive = tmp_path / "code-server.tar.gz"
    subprocess.run(["tar", "-C", tmp_path, "-czf", archive, release.parent.name], check=True)
    server = FileServer()
    server.files["/code-server.tar.gz"] = archive.read_bytes()
    folder = home / "SageMaker/code-server"
    words = {
        "version": "1.2", "sha256": hashlib.sha256(archive.read_bytes()).hexdigest(), "proxy": [],
        "url": f"{server.url}/code-server.tar.gz", "folder": str(folder),
    }  # fmt: skip
    assert [status for status, _ in run("code-server.yml", Machine(env))[:3]] == ["skipped"] * 3, "no checksum"
    first = [status for status, _ in run("code-server.yml", Machine(env), **words)][:3]
    assert first == ["changed", "skipped", "changed"]
    config = json.loads((home / ".jupyter/jupyter_server_config.d/code-server.json").read_text())
    command = config["ServerProxy"]["servers"]["code-server"]["command"]
    assert command[-1] == "--bind-addr=127.0.0.1:{port}"
    assert subprocess.check_output(command, text=True) == "code-server --auth=none\n"
    assert [status for status, _ in run("code-server.yml", Machine(env), **words)][:3] == ["ok", "skipped", "ok"]
    shutil.rmtree(home / ".jupyter")  # as a restart does; the volume keeps the release
    server.files.clear()
    assert [status for status, _ in run("code-server.yml", Machine(env), **words)][:3] == ["ok", "skipped", "changed"]
    wrong = [
        status for status, _ in run("code-server.yml", Machine(env), **{**words, "version": "1.3", "sha256": "0" * 64})
    ]
    assert wrong[0] == "failed"
    assert not (folder / "1.3").exists()
