"""Ansible's filters, tests and lookups: the same names, the same meaning, and none takes more than its share."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

from nbprovision.model.errors import InvalidPlaybook
from nbprovision.playbook import filters, value_tests
from nbprovision.playbook.outside import Outside
from nbprovision.playbook.template import Scope, Templates
from nbprovision.playbook.yaml_nodes import parse_nodes
from nbprovision.system import secrets

ENV = {"HOME": "/home/u", "STAGE": "test", "API_TOKEN": "correct horse"}


def render(source: str, folder: Path = Path("/playbooks"), **variables: Any) -> Any:
    made = Templates(folder, ENV)
    return made.render(source, Scope(made, [variables]))


def holds(source: str, folder: Path = Path("/playbooks"), **variables: Any) -> bool:
    made = Templates(folder, ENV)
    node = parse_nodes(f'"{source}"', "p.yml")
    assert node is not None
    return made.condition(node, Scope(made, [variables]))


# As the examples of Ansible's documentation of each filter have them, where it has some.
VALUES: list[tuple[str, Any]] = [
    ("'' | default('x', true)", "x"),
    ("'' | default('x')", ""),
    ("none | ternary(1, 2, 3)", 3),
    ("true | ternary('a', 'b')", "a"),
    ("0 | ternary('a', 'b')", "b"),
    ("{'b': 1, 'a': ['x']} | to_json", '{"b": 1, "a": ["x"]}'),
    ("{'b': 1, 'a': []} | to_nice_json(indent=2)", '{\n  "a": [],\n  "b": 1\n}'),
    ('\'{"a": [1, null]}\' | from_json', {"a": [1, None]}),
    ("{'a': [1, 'x']} | to_nice_yaml", "a:\n- 1\n- x\n"),
    ("{'a': 1} | to_yaml(default_flow_style=true)", "{a: 1}\n"),
    ("'a: [1, yes]' | from_yaml", {"a": [1, True]}),
    ("'ansible' | regex_replace('^a.*i(.*)$', 'a\\\\1')", "able"),
    ("'localhost:80' | regex_replace('^(?P<host>.+):(?P<port>[0-9]+)$', '\\\\g<host>, \\\\g<port>')", "localhost, 80"),
    ("'aaa' | regex_replace('a', 'b', count=2)", "bba"),
    ("'foo' | regex_replace('^', '#')", "#foo"),
    ("'A\nb' | regex_replace('^(?=.)', '# ', multiline=true)", "# A\n# b"),
    ("'server1/db42' | regex_search('(?i)DB(\\\\d+)')", "db42"),
    ("'server1/db42' | regex_search('server([0-9]+)/db([0-9]+)', '\\\\1', '\\\\2')", ["1", "42"]),
    ("'x' | regex_search('y')", None),
    ("'CAR\ntar' | regex_findall('^.ar$', multiline=true, ignorecase=true)", ["CAR", "tar"]),
    ("'a1 b2' | regex_findall('([a-z])(\\\\d)')", [["a", "1"], ["b", "2"]]),
    ("'^f.*o(.*)$' | regex_escape", "\\^f\\.\\*o\\(\\.\\*\\)\\$"),
    ("'/etc/x.conf' | splitext", ["/etc/x", ".conf"]),
    ("['/etc', 'a', 'b.c'] | path_join", "/etc/a/b.c"),
    ("'a/../b//c' | normpath", "b/c"),
    ("['/a/b/c', '/a/b/d'] | commonpath", "/a/b"),
    ("'~/x' | expanduser", "/home/u/x"),
    ("'$STAGE-${STAGE}-$5-${}' | expandvars", "test-test-$5-${}"),
    ("'${NOPE}' | expandvars | default('d')", "d"),
    ("'/playbooks/data/a' | relpath", "data/a"),
    ("'/a/b' | relpath('/a/c')", "../b"),
    ("'Zürich' | b64encode", "WsO8cmljaA=="),
    ("'WsO8cmljaA==' | b64decode", "Zürich"),
    ("'test1' | hash('sha1')", "b444ac06613fc8d63795be9ad0beaf55011936ac"),
    ("'test1' | checksum", "b444ac06613fc8d63795be9ad0beaf55011936ac"),
    ("'test1' | md5", "5a105e8b9d40e1329780d62ea2265d8a"),
    ("{'a': {'x': 1}} | combine({'a': {'y': 2}})", {"a": {"y": 2}}),
    ("{'a': {'x': 1}, 'l': [1, 2]} | combine({'a': {'y': 2}, 'l': [2, 3]}, recursive=true, list_merge='append_rp')",
     {"a": {"x": 1, "y": 2}, "l": [1, 2, 3]}),
    ("[{'a': 1}, {'b': 2}] | combine({'c': 3})", {"a": 1, "b": 2, "c": 3}),
    ("{'a': 1} | dict2items", [{"key": "a", "value": 1}]),
    ("{'a': 1} | dict2items(key_name='k', value_name='v')", [{"k": "a", "v": 1}]),
    ("[{'key': 'a', 'value': 1}] | items2dict", {"a": 1}),
    ("[1, [2, [none, 3]]] | flatten", [1, 2, 3]),
    ("[1, [2, [3]]] | flatten(levels=1)", [1, 2, [3]]),
    ("[3, 1, 3, {'a': 1}, {'a': 1}] | unique", [3, 1, {"a": 1}]),
    ("['a', 'A'] | unique", ["a"]),
    ("['a', 'A'] | unique(case_sensitive=true)", ["a", "A"]),
    ("[{'n': 1}, {'n': 1, 'x': 2}] | unique(attribute='n')", [{"n": 1}]),
    ("[1, 2] | union([2, 3])", [1, 2, 3]),
    ("[1, 2, 2] | intersect([2, 3])", [2]),
    ("[1, 2] | difference([2, 3])", [1]),
    ("[1, 2] | symmetric_difference([2, 3])", [1, 3]),
    ("[1, 2, 3] | zip(['a', 'b'])", [[1, "a"], [2, "b"]]),
    ("[1, 2] | zip_longest(['a'], fillvalue='-')", [[1, "a"], [2, "-"]]),
    ("['a', 'b'] | product([1, 2])", [["a", 1], ["a", 2], ["b", 1], ["b", 2]]),
    ("[1, 2, 3] | combinations(2)", [[1, 2], [1, 3], [2, 3]]),
    ("[0, 2] | map('extract', ['x', 'y', 'z'])", ["x", "z"]),
    ("[{'n': 'a', 'k': [1, 2]}] | subelements('k')", [[{"n": "a", "k": [1, 2]}, 1], [{"n": "a", "k": [1, 2]}, 2]]),
    ("'it is; rm -rf' | quote", "'it is; rm -rf'"),
    ("'on' | bool", True),
    ("'a, b' | split(', ')", ["a", "b"]),
    ("' a  b ' | split", ["a", "b"]),
    ("123456789 | human_readable", "117.74 MB"),
    ("500 | human_readable", "500.00 Bytes"),
    ("'5 GB' | human_to_bytes", 5 * 1024**3),
    ("'1.5K' | human_to_bytes", 1536),
    ("'https://u:p@h:8/x?y=1' | urlsplit('hostname')", "h"),
    ("'a%20b' | urldecode", "a b"),
    ("[1] | type_debug", "list"),
    ("'/a/b.txt' | ansible.builtin.basename", "b.txt"),
    ("['/a/b', '/c'] | map('basename') | list", ["b", "c"]),
    ("['x1', 'y'] | select('match', '[a-z]\\\\d') | list", ["x1"]),
    ("query('env', 'STAGE', 'NOPE', default='')", ["test", ""]),
    ("query('env', 'STAGE', 'NOPE') | map('default', 'd') | list", ["test", "d"]),
    ("lookup('env', 'STAGE', 'NOPE', default='')", "test,"),
    ("lookup('ansible.builtin.env', ['STAGE', 'STAGE'])", "test,test"),
]  # fmt: skip


@pytest.mark.parametrize(("expression", "value"), VALUES, ids=[expression[:50] for expression, _ in VALUES])
def test_filters_mean_what_they_mean_in_ansible(expression: str, value: Any) -> None:
    found = render("{{ " + expression + " }}")
    assert found == value
    assert type(found) is type(value)


CONDITIONS = [
    ("'1.2' is version('1.10', '<')", True),
    ("'1.2' is version('1.2.0')", True),
    ("'1.0rc1' is version('1.0', '<')", True),
    ("'1.2.0-5.el9' is version('1.2.0-10.el9', 'lt')", True),
    ("'1.2' is version('1.2.0', version_type='loose')", False),
    ("'1.0.0-rc.1' is version('1.0.0', '<', version_type='semver')", True),
    ("'3.12' is version_compare('3.9', 'ge')", True),
    ("'numpy==2' is match('numpy')", True),
    ("'x numpy' is match('numpy')", False),
    ("'x numpy' is search('NUMPY', ignorecase=true)", True),
    ("'ab' is regex('b', match_type='fullmatch')", False),
    ("[1] is subset([1, 2])", True),
    ("[1, 2] is superset([3])", False),
    ("[1, 2] is contains(2)", True),
    ("[0, 1] is any", True),
    ("[0, 1] is all", False),
    ("'x' is truthy", True),
    ("'no' is truthy(convert_bool=true)", False),
    ("'' is falsy", True),
    ("'/a' is abs", True),
    ("'https://a/b' is url", True),
    ("nope is defined", False),
    ("result is changed", True),
    ("result is failed", False),
    ("result is skipped", False),
    ("result is succeeded and result is success", True),
]


@pytest.mark.parametrize(("condition", "value"), CONDITIONS, ids=[condition for condition, _ in CONDITIONS])
def test_tests_mean_what_they_mean_in_ansible(condition: str, value: bool) -> None:
    assert holds(condition, result={"changed": True, "failed": False, "skipped": False}) is value


def test_what_a_path_test_saw_is_remembered(tmp_path: Path) -> None:
    """A file that comes or goes is a reason to look anew; what was not there is noted as such."""
    (tmp_path / "there").write_text("")
    (tmp_path / "folder").mkdir()
    (tmp_path / "dangling").symlink_to("nowhere")
    made = Templates(tmp_path, ENV)
    scope = Scope(made, [])
    answers = {
        "'there' is exists": True,
        "'there' is file": True,
        "'folder' is directory": True,
        "'folder' is file": False,
        "'gone' is exists": False,
        "'dangling' is link": True,
        "'dangling' is exists": False,
        "'dangling' is link_exists": True,
        "'there' is same_file('folder/../there')": True,
    }
    for condition, answer in answers.items():
        assert made.render("{{ " + condition + " }}", scope) is answer, condition
    assert made.outside.looked_at == {
        tmp_path / "there": True,
        tmp_path / "folder": True,
        tmp_path / "gone": False,
        tmp_path / "dangling": True,
    }


def test_lookups_of_files(tmp_path: Path) -> None:
    """Files by name and by pattern, from the playbook's folder on; what they were found by is remembered."""
    for name in ("a.txt", "b.txt"):
        (tmp_path / name).write_text(f"{name[0]}\n")
    made = Templates(tmp_path, ENV)
    scope = Scope(made, [])

    def value(expression: str) -> Any:
        return made.render("{{ " + expression + " }}", scope)

    assert value("lookup('file', 'a.txt', 'b.txt')") == "a,b"
    assert value("lookup('file', 'a.txt', rstrip=false)") == "a\n"
    assert value("query('fileglob', '*.txt')") == [str(tmp_path / "a.txt"), str(tmp_path / "b.txt")]
    assert value("['*.txt'] | map('fileglob') | first | length") == 2
    assert value("lookup('first_found', 'z.txt', 'b.txt')") == str(tmp_path / "b.txt")
    assert value("lookup('first_found', {'files': ['b.txt'], 'paths': ['nope', '.']})") == str(tmp_path / "b.txt")
    assert value("query('first_found', 'z.txt', skip=true)") == []
    assert made.outside.looked_at[tmp_path / "z.txt"] is False
    assert made.outside.looked_at[tmp_path] is True
    with pytest.raises(InvalidPlaybook, match="none of the files of first_found exists"):
        value("lookup('first_found', 'z.txt')")


def test_realpath_goes_by_every_folder_on_the_way(tmp_path: Path) -> None:
    """A folder that becomes a link leads elsewhere, though what lies at its end may be the same."""
    (tmp_path / "a").mkdir()
    (tmp_path / "link").symlink_to("a")
    made = Templates(tmp_path, ENV)
    assert made.render("{{ 'link/x' | realpath }}", Scope(made, [])) == os.path.realpath(tmp_path / "a/x")
    assert {tmp_path / "link/x", tmp_path / "link", tmp_path} <= set(made.outside.looked_at)


MISTAKES = [
    ("1 | basenam", "did you mean 'basename'?"),
    ("1 | ansible.builtin.basenam", "did you mean 'basename'?"),
    ("[1] | random", "it has another result each time"),
    ("[1] | shuffle", "it has another result each time"),
    ("'x' | password_hash", "it has another result each time"),
    ("1 | community.general.json_query('a')", "the reference lists every filter"),
    ("x | json_query('a')", "use selectattr"),
    ("1 is reachable", "a playbook has one host"),
    ("1 is chnged", "did you mean 'changed'?"),
    ("1 is changed", "name the variable that `register` gives the result to"),
    ("lookup('pipe', 'ls')", "use ensure_command with `register`"),
    ("lookup('password', '/dev/null')", "a playbook describes a state"),
    ("lookup('fil', 'x')", "did you mean 'file'?"),
    ("lookup('file', 'x', deflt=1)", "lookup 'file' has no option 'deflt'"),
    ("lookup('file', 'nowhere.txt')", "nowhere.txt does not exist"),
    ("'1' is version('2', '~=')", "'~=' does not compare versions"),
    ("'x y' is version('2', version_type='pep440')", "is not a version by PEP 440"),
    ("'(' | regex_search('(')", "is not a regular expression"),
    ("'a' | regex_replace('a', '\\\\9')", "cannot replace a match"),
    ("'a' | regex_search('a', '\\\\1')", "has no group"),
    ("'a' | regex_replace('b', '\\\\9')", "cannot replace a match"),
    ("'x' | regex_search('x{99999999999}')", "is not a regular expression"),
    ("['a'] | regex_replace('a', 'b')", "`map` for a list"),
    ("{'a': 1} | flatten", "put `| dict2items` before it"),
    ("'abc' | unique", "put it in brackets"),
    ("[1] | dict2items", "takes a mapping"),
    ("[1] | items2dict", "a list of mappings"),
    ("'[1' | from_json", "the value is not JSON"),
    ("'[1' | from_yaml", "is not closed"),
    ("('[' * 100000) | from_json", "it is nested too deep"),
    ("('[' * 100 ~ ']' * 100) | from_yaml", "nested more than 40 deep"),
    ("('[' * 100000) | from_yaml", "exceeded maximum nesting depth"),
    ("{'a': nope} | to_json", "variable 'nope' is not defined"),
    ("nope | b64encode", "variable 'nope' is not defined"),
    ("nope | flatten", "variable 'nope' is not defined"),
    ("nope | ternary(1, 2)", "variable 'nope' is not defined"),
    ("nope | regex_replace('a', 'b')", "variable 'nope' is not defined"),
    ("1 | to_nice_json(indent=10000000)", "an indentation is a number from 0 to 16"),
    ("'x' | hash('nope')", "unknown hash 'nope'"),
    ("'5 parsecs' | human_to_bytes", "is not a size"),
    ("ansible_user_id", "write nb.user"),
    ("ansible_env.HOME", "write lookup('env', NAME)"),
    ("ansible_distribution == 'Amazon'", "write nb.distribution"),
    ("inventory_hostname", "a playbook runs on this machine only"),
    ("ansible_memtotal_mb", "the reference lists them"),
]


@pytest.mark.parametrize(("expression", "told"), MISTAKES, ids=[expression for expression, _ in MISTAKES])
def test_mistakes_are_told_with_what_to_write(expression: str, told: str) -> None:
    with pytest.raises(InvalidPlaybook) as caught:
        render("{{ " + expression + " }}", x=1)
    assert told in str(caught.value)


def test_a_secret_in_another_dress_is_a_secret() -> None:
    """What base64 makes of a password is masked as the password is."""
    encoded = render("{{ ('user:' ~ lookup('env', 'API_TOKEN')) | b64encode }}")
    assert secrets.mask(f"Authorization: Basic {encoded}") == "Authorization: Basic ****"


def test_the_reference_names_every_filter_test_and_lookup() -> None:
    text = (Path(__file__).parents[2] / "docs/reference.md").read_text()
    section = text[text.index("### Templates\n") : text.index("## Tasks\n")]
    outside = Outside(Path("/"), {})
    for name in (*filters.filters(outside), *value_tests.tests(outside)):
        assert f"`{name}`" in section, name
    for name in outside.lookups:
        assert f"`lookup('{name}'" in section, name
