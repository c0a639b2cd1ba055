"""Requirements files and environment.yml made to break out: refused at their place, or a requirement like others."""

from __future__ import annotations

import contextlib
import io
import json
import os
from pathlib import Path
from unittest import mock

import pytest

from nbprovision.__main__ import main
from nbprovision.conda import environment_file
from nbprovision.model.errors import InvalidPlaybook, Position
from nbprovision.pip import requirements_files

REFUSED = [
    "-r r.txt", "-c r.txt", "-r nope.txt", "-r", "-r ''", "-r a\0b", "-r " + "a/" * 3000, "-c " + "a" * 300,
    "--index-url", "-i 'http://evil", "-i x y", "--config-settings x", "--global-option=x", "--pre x",
    "six --global-option='touch CANARY'", "six --index-url http://evil", "-e", "-e ../x; touch CANARY", "-six", "--six",
    "x @ git+file:///x --upload-pack=touch", "x @ git+file:///x@--upload-pack=touch", "-e git+https://x/y@--exec=touch",
    "x @ git+ssh://-oProxyCommand=touch/x", "x @ git+ssh://me@-oProxyCommand=touch/x", "svn+ssh://-x/y",
    "x @ hg+https://h/x@--config=alias.x=!touch", "git+ext::sh -c touch% CANARY", "x @ file:///%00", "http://[::1/x",
    "six\0", "a\0b==1", "\u202esix", "six @", "@", "six==1.0 six", "'six", "$(touch CANARY)", "`touch CANARY`",
    "six --hash", "six --hash=x", "six --hash=sha256:zz", "six --hash=sha256:../../x",
    "six; python_version", "six; python_version < 3", "six; os_name == 'a' or", "six ; " + "(" * 5000,
    "six ; " + "(" * 200 + "os_name == 'a'", "six[" + "a," * 5000 + "]", "six[../../x]", "${NOPE}",
]  # fmt: skip


@pytest.mark.parametrize("line", REFUSED, ids=lambda line: line[:40])
def test_a_line_is_refused_where_it_stands(line: str, tmp_path: Path) -> None:
    path = tmp_path / "r.txt"
    path.write_text(f"six\n{line}\n")
    with pytest.raises(InvalidPlaybook) as caught:
        requirements_files.read((), [path], (), {})
    assert caught.value.position is not None
    assert caught.value.position[:2] == (str(path), 2)
    assert len(str(caught.value)) < 7000  # a path of 6,000 characters is named, nothing is repeated


def test_a_file_that_is_no_requirements_file_is_only_read(tmp_path: Path) -> None:
    (tmp_path / "passwd").write_text("root:x:0:0:root:/root:/bin/bash\n")
    (tmp_path / "r.txt").write_text("-r passwd\n")
    (one,) = requirements_files.read((), [tmp_path / "r.txt"], (), {}).wanted
    assert one.position == Position(str(tmp_path / "passwd"), 1, 1)


DOCUMENTS = [
    ("name: !!python/object/apply:os.system [touch CANARY]", 2),
    ("name: !!python/name:os.system", 2),
    ("name: [x]", 1),
    ('name: "a\\0b"', 1),
    ("dependencies: !!python/tuple [a]", 2),
    ("dependencies:\n- pip:\n  - six\n  - --trust-all http://evil", 5),
    ("dependencies:\n- pip:\n  - '-e ../x; touch CANARY'", 4),
    ("dependencies:\n- pip:\n  - six @ git+https://h/x@--upload-pack=touch", 4),
    ("dependencies:\n- pip:\n  - -r nope.txt", 4),
    ("dependencies: [{pip: {a: b}}]", 1),
    ("dependencies: [{npm: [x]}]", 2),
    ("channels: [{a: b}]", 1),
    ("variables:\n  a: [1]", 3),
    ("dependencies: [a]\nchannels: [c]\ndependencies: [b]", 4),
    ("variables:\n  a: 1\n  a: 2", 4),
    ("dependencies: [a]\n---\nname: x", 3),
    ("variables:\n  'A=B': x", 3),
    ("dependencies: [&a [*a]]", 1),
    ("{", 3),
]


@pytest.mark.parametrize(("text", "line"), DOCUMENTS)
def test_an_environment_file_is_refused_where_it_is_wrong(text: str, line: int, tmp_path: Path) -> None:
    path = tmp_path / "environment.yml"
    path.write_text(f"# a comment\n{text}\n")
    with pytest.raises(InvalidPlaybook) as caught:
        environment_file.pip_section(environment_file.read(path), {})
    assert caught.value.position is not None
    assert caught.value.position[:2] == (str(path), line)


@pytest.mark.parametrize(
    "text",
    [
        "name: ../../../x",
        "name: -rf",
        "name: " + "a/" * 5000,
        "prefix: envs/x\nname: ../../../x",
        "name: x\ndependencies: ['--file=/etc/passwd', '$(touch CANARY)', 'a=1; touch CANARY']",
    ],
    ids=lambda text: text[:40],
)
def test_a_run_with_it_stays_where_it_belongs(text: str, env: dict[str, str], tmp_path: Path) -> None:
    project = tmp_path / "project"
    project.mkdir()
    (project / "environment.yml").write_text(text + "\n")
    playbook = project / "playbook.yml"
    playbook.write_text(json.dumps([{"tasks": [{"ensure_conda_env": {"file": "environment.yml"}}]}]))
    out = io.StringIO()
    with (
        mock.patch.dict(os.environ, env, clear=True),
        contextlib.redirect_stdout(out),
        contextlib.redirect_stderr(out),
    ):
        status = main(["run", str(playbook), "--check"])
    assert "Traceback" not in out.getvalue()
    if text.startswith("prefix"):
        assert str(project / "envs/x") in out.getvalue() or status == 0
        assert "../x" not in out.getvalue()
    else:
        assert status in (2, 4), out.getvalue()
    assert not list(tmp_path.rglob("CANARY"))
    assert {path.name for path in project.iterdir()} == {"environment.yml", "playbook.yml"}
