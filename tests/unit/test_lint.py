"""Every rule of the lint: what it finds, and what it leaves in peace."""

# ruff: noqa: F401, F811 - pytest finds fixtures by their names in this module
from __future__ import annotations

from typing import Any, NamedTuple

import pytest

from nbprovision.lint.finding import all_rules
from tests.unit.linting import ROOT, linted, tasks


class Case(NamedTuple):
    """What a rule finds, where (the last such text in it), and what it does not."""

    bad: str
    at: str
    good: str

    @property
    def place(self) -> tuple[int, int]:
        """Line and column."""
        before = self.bad[: self.bad.rindex(self.at)]
        return before.count("\n") + 1, len(before) - before.rfind("\n")


def script(*lines: str) -> str:
    return "\n".join(("#!/bin/bash", "set -e", *lines, ""))


FRAUD = "ensure_conda_env: {name: fraud, packages: [python=3.12, ipykernel]}"
ARGV = 'argv: [/bin/cat, "{connection_file}"]'
CASES: dict[str, Case | list[Case]] = {
    "invalid-playbook": [
        Case("- tasks:\n\t- a\n", "\t-", tasks(FRAUD)),
        Case(tasks("ensure_kernl: {env: fraud}"), "ensure_kernl", tasks(FRAUD, "ensure_kernel: {env: fraud}")),
    ],
    "unknown-parameter": Case(
        tasks("ensure_kernel: {argvv: [a]}"), "argvv", tasks(f"ensure_kernel: {{{ARGV}, name: a}}")
    ),
    "unresolved-template": Case(
        tasks("ensure_conda_env: {name: '{{ nmae }}'}"),
        "'{{ nmae",
        "- vars: {name: fraud}\n  tasks:\n    - ensure_conda_env: {name: '{{ name }}'}\n",
    ),
    "unknown-environment": Case(
        tasks("ensure_kernel: {env: fruad}", FRAUD), "fruad}", tasks(FRAUD, "ensure_kernel: {env: fraud}")
    ),
    "unknown-noqa": Case(tasks(f"{FRAUD}  # noqa: truhty"), "truhty", tasks(f"{FRAUD}  # noqa: truthy, crlf")),
    "crlf": Case(tasks(FRAUD).replace("\n", "\r\n"), "- tasks", tasks(FRAUD)),
    "truthy": Case(
        tasks("ensure_conda_env: {name: a, exact: yes}"), "yes}", tasks("ensure_conda_env: {name: 'yes', exact: true}")
    ),
    "braces-in-condition": Case(
        tasks(f"{{when: '{{{{ nb.gpu }}}}', {FRAUD}}}"), "'{{ nb.gpu", tasks(f"{{when: nb.gpu, {FRAUD}}}")
    ),
    "long-name": Case(
        tasks("ansible.builtin.import_tasks: more.yml"), "ansible.builtin", tasks("import_tasks: more.yml")
    ),
    "hard-coded-environment": Case(
        tasks("ensure_pip_pkg: {envs: [pytorch_p310], allow_empty: true, packages: [a]}"),
        "pytorch_p310",
        tasks("ensure_pip_pkg: {envs: [pytorch*], allow_empty: true, packages: [a]}"),
    ),
    "environment-outside-volume": [
        Case(
            tasks("ensure_conda_env: {prefix: /home/ec2-user/anaconda3/envs/fraud}"),
            "/home/ec2-user/anaconda3",
            tasks("ensure_conda_env: {prefix: /home/ec2-user/SageMaker/envs/fraud}"),
        ),
        Case(
            tasks("ensure_condarc: {envs_dirs: [/home/ec2-user/SageMaker/envs, /tmp/envs]}"),
            "/tmp/envs",
            tasks("ensure_condarc: {envs_dirs: [/home/ec2-user/SageMaker/envs]}"),
        ),
    ],
    "jupyter-server-environment": Case(
        tasks("ensure_pip_pkg: {env: JupyterSystemEnv, jupyter_server: true, packages: [a]}"),
        "JupyterSystemEnv",
        tasks("ensure_pip_pkg: {envs: all, allow_empty: true, packages: [a]}"),
    ),
    "kernel-without-ipykernel": Case(
        tasks("ensure_conda_env: {name: a, packages: [python]}", "ensure_kernel: {env: a, install_ipykernel: false}"),
        "false}",
        tasks(FRAUD, "ensure_kernel: {env: fraud, install_ipykernel: false}"),
    ),
    "dependency-confusion": Case(
        tasks("ensure_pip_index: {url: https://pypi.team.example/simple, extra_urls: [https://pypi.org/simple]}"),
        "[https://pypi.org",
        tasks("ensure_pip_index: {url: https://a.team.example/simple, extra_urls: [https://b.team.example/simple]}"),
    ),
    "unchecked-index": [
        Case(
            tasks("ensure_pip_index: {url: http://pypi.team.example/simple}"),
            "http://pypi",
            tasks("ensure_pip_index: {url: http://127.0.0.1:3141/simple, trusted_hosts: [127.0.0.1]}"),
        ),
        Case(
            tasks("ensure_pip_index: {url: https://a.example/simple, trusted_hosts: [a.example]}"),
            "a.example]",
            tasks("ensure_pip_index: {url: https://a.example/simple, cert: /etc/ssl/team.pem}"),
        ),
    ],
    "defaults-channel": Case(
        tasks("ensure_conda_env: {name: a, channels: [conda-forge, defaults]}"),
        "defaults]",
        tasks("ensure_conda_env: {name: a, channels: [conda-forge]}"),
    ),
    "platform-changes": Case(
        tasks("ensure_pip_pkg: {envs: all, allow_empty: true, packages: [a], allow_platform_changes: true}"),
        "true}",
        tasks("ensure_pip_pkg: {envs: all, allow_empty: true, packages: [a]}"),
    ),
    "unpinned-source": Case(
        tasks("ensure_pip_pkg: {envs: all, allow_empty: true, packages: ['git+https://git.example/team/a']}"),
        "'git+",
        tasks("ensure_pip_pkg: {envs: all, allow_empty: true, packages: ['git+https://git.example/team/a@v1']}"),
    ),
    "plain-secret": [
        Case(
            "- vars:\n    index_password: hunter22\n",
            "hunter22",
            "- vars:\n    index_password: \"{{ lookup('env', 'INDEX_PASSWORD') }}\"\n    use_token: true\n",
        ),
        Case(
            tasks("ensure_pip_index: {url: 'https://reader:hunter22@pypi.example/simple'}"),
            "'https://reader",
            tasks("ensure_pip_index: {url: \"https://reader:{{ lookup('env', 'X') }}@pypi.example/simple\"}"),
        ),
    ],
    "conflicting-tasks": [
        Case(
            tasks(f"ensure_kernel: {{name: a, {ARGV}, display_name: A}}", f"ensure_kernel: {{name: a, {ARGV}, display_name: B}}"),
            "ensure_kernel",
            tasks(f"ensure_kernel: {{name: a, {ARGV}}}", f"ensure_kernel: {{name: b, {ARGV}}}"),
        ),
        Case(
            tasks(f"ensure_kernel: {{name: a, {ARGV}}}", f"ensure_kernel: {{name: a, {ARGV}, state: absent}}"),
            "ensure_kernel",
            tasks(f"ensure_kernel: {{name: a, {ARGV}}}", f"{{when: nb.gpu and not nb.gpu, ensure_kernel: {{name: a, {ARGV}, state: absent}}}}"),
        ),
        Case(
            tasks("ensure_conda_env: {name: a, packages: [python=3.12]}", "ensure_conda_pkg: {env: a, packages: ['python<3.12']}"),
            "ensure_conda_pkg",
            tasks("ensure_conda_env: {name: a, packages: [python=3.12]}", "ensure_conda_pkg: {env: a, packages: ['python>=3.10']}"),
        ),
        Case(
            tasks(FRAUD, "ensure_pip_pkg: {env: fraud, packages: [a==1]}", "ensure_pip_pkg: {env: fraud, packages: ['a>=2']}"),
            "ensure_pip_pkg",
            tasks(FRAUD, "ensure_pip_pkg: {env: fraud, packages: [a==1]}", "ensure_pip_pkg: {env: fraud, packages: ['a>=1']}"),
        ),
        Case(
            tasks("ensure_pip_index: {url: https://a.example/simple}", "ensure_pip_index: {url: https://b.example/simple}"),
            "ensure_pip_index",
            tasks("ensure_pip_index: {url: https://a.example/simple}"),
        ),
        Case(
            tasks("ensure_env_var: {vars: {A: 1, B: 1}}", "ensure_env_var: {name: A, value: 2}"),
            "ensure_env_var",
            tasks("ensure_env_var: {vars: {A: 1, B: 1}}", "ensure_env_var: {vars: {C: 2, B: 1}}"),
        ),
        Case(
            tasks("ensure_file: {path: /x/a, content: a}", "ensure_line: {path: /x/a, line: b}"),
            "ensure_line",
            tasks("ensure_line: {path: /x/a, line: a}", "ensure_line: {path: /x/a, line: b, state: absent}"),
        ),
        Case(
            tasks("ensure_git_config: {name: a.b, value: c}", "ensure_git_config: {name: a.b, state: absent}"),
            "ensure_git_config",
            tasks("ensure_git_config: {name: a.b, value: c}", "ensure_git_config: {name: a.d, value: e}"),
        ),
        Case(
            tasks("ensure_condarc: {channels: [a, b]}", "ensure_condarc: {channels: [b], state: absent}"),
            "ensure_condarc",
            tasks("ensure_condarc: {channels: [a, b]}", "ensure_condarc: {channels: [c], state: absent}"),
        ),
        Case(
            tasks("ensure_condarc: {ssl_verify: true}", "ensure_condarc: {ssl_verify: false}"),
            "ensure_condarc",
            tasks("ensure_condarc: {ssl_verify: true}", "ensure_condarc: {channels: [c]}"),
        ),
        Case(
            tasks("ensure_file: {path: /x/a, content: a}", "ensure_file: {path: /x/a, content: b}"),
            "ensure_file",
            tasks("ensure_file: {path: /x/a, content: a}", "ensure_file: {path: /x/a, mode: '0600'}"),
        ),
        Case(
            tasks("ensure_file: {path: /x/a, state: directory}", "ensure_file: {path: /x/a, state: absent}"),
            "ensure_file",
            f"- tasks:\n    - block:\n        - {FRAUD}\n        - ensure_file: {{path: /x/a, content: a}}\n"
            "      rescue:\n        - ensure_file: {path: /x/a, state: absent}\n",
        ),
        Case(
            tasks("ensure_conda_env: {name: a, packages: [numpy=1]}", "ensure_pip_pkg: {env: a, packages: [numpy>=2]}"),
            "ensure_pip_pkg",
            tasks("ensure_conda_env: {name: a, packages: [numpy=1]}", "ensure_pip_pkg: {env: a, packages: [numpy<2]}"),
        ),
    ],
    "missing-file": Case(
        tasks(FRAUD, "ensure_pip_pkg: {env: fraud, requirements: nope.txt}"),
        "nope.txt",
        tasks(FRAUD, "ensure_pip_pkg: {env: fraud, requirements: wanted.txt}"),
    ),
    "unused-handler": Case(
        f"- tasks:\n    - {FRAUD}\n  handlers:\n    - name: tell\n      {FRAUD}\n",
        "ensure_conda_env",
        f"- tasks:\n    - {FRAUD}\n      notify: tell\n  handlers:\n    - name: tell\n      {FRAUD}\n",
    ),
    "root-needed": Case(
        tasks("ensure_command: {argv: [sudo, yum, install, jq], creates: /x}"),
        "[sudo",
        tasks("ensure_command: {argv: [echo, sudo], creates: /x}"),
    ),
    "no-cron": Case(
        tasks("ensure_command: {shell: 'crontab -l | cat', creates: /x}"),
        "'crontab",
        tasks("ensure_command: {shell: 'echo crontab', creates: /x}"),
    ),
    "restart-at-boot": [Case(
        "- tasks: []\n  handlers:\n    - restart_jupyter: {at_boot: true}\n",
        "true",
        "- tasks: []\n  handlers:\n    - restart_jupyter: {scope: user}\n",
    ), Case(
        tasks("ensure_command: {shell: systemctl restart jupyter-server, creates: /x}"),
        "systemctl",
        tasks("ensure_command: {shell: systemctl --user restart team, creates: /x}"),
    )],
    "command-always-runs": Case(
        tasks("ensure_command: {argv: [date]}"), "ensure_command", tasks("ensure_command: {argv: [date], creates: /x}")
    ),
    "unresolved-elsewhere": Case(
        tasks("{when: nb.platform == 'studio', ensure_conda_env: {name: '{{ nope }}'}}"),
        "'{{ nope",
        tasks("{when: nope is defined, ensure_conda_env: {name: '{{ nope }}'}}"),
    ),
    "script-too-large": Case(script("# " + "x" * 12_288), "#!/bin/bash", script("# " + "x" * 12_200)),
    "script-crlf": Case(script("echo").replace("\n", "\r\n"), "#!/bin/bash", script("echo")),
    "script-not-ascii": Case(script("echo \u2013v"), "\u2013v", script("echo -v")),
    "script-shebang": Case("\n#!/bin/sh\necho\n", "\n#!/bin/sh", "#!/bin/sh\necho\n"),
    "script-nohup": Case(script("nohup ./work &"), "nohup", script("# nohup", "setsid ./work &")),
    "script-package-manager": Case(
        script("sudo yum install -y jq"), "yum", script("dnf install -y jq", "echo 'no yum here'")
    ),
    "script-cron": Case(script("(crontab -l; echo x)"), "crontab -l", script("systemctl start a.timer")),
    "script-initctl": Case(script("initctl reload a"), "initctl", script("systemctl reload a")),
    "script-restart-jupyter": [
        Case(script("systemctl restart jupyter-server"), "systemctl", script("systemctl status jupyter-server")),
        Case(script("sudo initctl restart jupyter-server --no-wait"), "initctl", script("systemctl restart docker")),
    ],
    "script-hard-coded-environment": Case(
        script("source activate pytorch_p310"), "pytorch_p310", script("for env in anaconda3/envs/pytorch*; do echo; done")
    ),
    "script-jupyter-server-environment": [
        Case(script("source activate JupyterSystemEnv", "pip install a"), "activate", script("source activate python3", "pip install a", "PYTHON=$(source activate JupyterSystemEnv && which python)")),
        Case(
            script("for env in /home/ec2-user/anaconda3/envs/*; do", 'if [ "$env" = JupyterSystemEnv ]; then continue; fi'),
            "for env",
            script("for env in /home/ec2-user/anaconda3/envs/*; do", '[ "$(basename "$env")" = JupyterSystemEnv ] && continue'),
        ),
    ],
    "script-environment-outside-volume": Case(
        script("conda create -y -n fraud python"),
        "conda create",
        script("conda create -y --prefix /home/ec2-user/SageMaker/envs/fraud python", 'conda create -p "$PLACE" python'),
    ),
    "script-activate-without-hook": Case(
        script("conda activate fraud"), "conda activate", script("source /opt/conda/etc/profile.d/conda.sh", "conda activate fraud")
    ),
    "script-lost-failure": Case(
        script("sudo -u ec2-user -i <<'EOF'", "pip install a", "EOF"),
        "sudo",
        script("sudo -u ec2-user -i <<'EOF'", "set -eu", "pip install a", "EOF"),
    ),
    "script-plain-secret": Case(
        script("export API_TOKEN=abcdef123"), "API_TOKEN", script('export API_TOKEN="$(aws secretsmanager get-secret-value)"')
    ),
}  # fmt: skip
EACH = [(name, case) for name, cases in CASES.items() for case in (cases if isinstance(cases, list) else [cases])]


def file_of(rule: str) -> str:
    return "start.sh" if rule.startswith("script-") else "p.yml"


@pytest.mark.parametrize(("rule", "case"), EACH, ids=[f"{name}-{n}" for n, (name, _) in enumerate(EACH)])
def test_a_rule_finds_what_is_bad_and_leaves_what_is_good(rule: str, case: Case, linted: Any) -> None:
    found = [one for one in linted(case.bad, file_of(rule)) if one.rule == rule]
    assert [one.position[1:] for one in found] == [case.place]
    assert found[0].message
    assert found[0].why
    assert "hunter22" not in repr(found)
    assert [one for one in linted(case.good, file_of(rule)) if one.rule == rule] == []


def test_every_rule_has_its_case() -> None:
    tested = {name for name, _ in EACH}
    assert tested == {one.name for one in all_rules()}


@pytest.mark.parametrize(("rule", "case"), EACH, ids=[f"{name}-{n}" for n, (name, _) in enumerate(EACH)])
def test_what_is_good_is_clean(rule: str, case: Case, linted: Any) -> None:
    """The good ones are examples to follow: no other rule has a word about them that would be an error."""
    assert [one for one in linted(case.good, file_of(rule)) if one.severity == "error"] == []


def test_a_comment_keeps_a_rule_quiet_in_its_line(linted: Any) -> None:
    """By name, or all of them; not what a run would refuse."""
    line = "ensure_conda_env: {name: a, exact: yes, channels: [defaults]}"
    assert {one.rule for one in linted(tasks(line))} == {"truthy", "defaults-channel"}
    assert {one.rule for one in linted(tasks(f"{line}  # noqa: truthy"))} == {"defaults-channel"}
    assert linted(tasks(f"{line}  # noqa: truthy, defaults-channel")) == []
    assert linted(tasks(f"{line}  # why not  # noqa")) == []
    assert {one.rule for one in linted(tasks(f"ensure_kernel: {{{ARGV}, name: a, nam: a}}  # noqa"))} == {
        "unknown-parameter"
    }


def test_all_faults_of_a_wrong_playbook_are_told_each_in_its_place(linted: Any) -> None:
    found = linted(
        tasks(
            f"ensure_kernel: {{{ARGV}, name: a, nam: a}}",
            "ensure_pip_pkg: {env: '{{ nope }}', packages: [a]}",
            "ensure_x: {}",
        )
    )
    assert [(one.rule, one.position.line) for one in found] == [
        ("unknown-parameter", 2),
        ("unresolved-template", 3),
        ("invalid-playbook", 4),
    ]


def test_rules_look_at_a_wrong_playbook_too(linted: Any) -> None:
    """As far as it can be read: one look is to tell as much as it can."""
    found = linted(
        tasks(f"ensure_kernel: {{{ARGV}, name: a, nam: a}}", "ensure_conda_env: {name: a, channels: [defaults]}")
    )
    assert {one.rule for one in found} == {"unknown-parameter", "defaults-channel"}


def test_what_is_known_only_where_it_runs_is_no_fault(linted: Any) -> None:
    """A variable of the environment that is not set here; the result of a task; a task for another machine."""
    unset = "- vars: {url: \"{{ lookup('env', 'NOPE') }}\"}\n  tasks:\n    - ensure_pip_index: {url: '{{ url }}'}\n"
    assert linted(unset) == []
    later = (
        "- tasks:\n    - ensure_file: {path: /x/a, content: a}\n      register: made\n"
        "    - ensure_conda_env: {name: later, packages: '{{ made.changes }}'}\n    - ensure_kernel: {env: later}\n"
    )
    assert linted(later) == []
    assert linted(tasks("{when: nb.platform == 'studio', ensure_kernel: {env: of_studio}}")) == []


def test_the_page_tells_of_every_rule() -> None:
    """``python -m tests.unit.test_lint`` writes it anew."""
    assert PAGE.read_text() == page()


PAGE = ROOT / "docs" / "lint.md"
BEGIN, END = "<!-- made by: python -m tests.unit.test_lint -->\n", "<!-- end -->\n"


def page() -> str:
    """The page with its rules as they are defined."""
    head, _, rest = PAGE.read_text().partition(BEGIN)
    tail = rest.partition(END)[2]
    parts = []
    for about, title in (("playbook", "Rules about playbooks"), ("script", "Rules about lifecycle scripts")):
        rows = [
            f"| `{one.name}` | {one.severity} | {'yes' if one.fixes else ''} | {one.finds} | {one.why} |"
            for one in all_rules()
            if one.about == about
        ]
        parts += ["", f"## {title}", "", "| rule | | `--fix` | finds | why |", "|---|---|---|---|---|", *rows]
    return head + BEGIN + "\n".join(parts) + "\n\n" + END + tail


if __name__ == "__main__":
    PAGE.write_text(page())
