"""Variables, templates and conditions: Ansible's meaning, in a sandbox that lets nothing out."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from nbprovision.model.errors import InvalidPlaybook, Position
from nbprovision.playbook.template import Scope, Templates
from nbprovision.playbook.template_names import OMIT
from nbprovision.playbook.yaml_nodes import Scalar, parse_nodes
from nbprovision.system import secrets

FACTS = {"nb": {"platform": "other", "envs": ["a", "b"], "looks_like": "{{ template }}"}}


def templates(folder: Path = Path("/playbooks")) -> Templates:
    return Templates(folder, {"HOME": "/home/u", "PIP_TOKEN": "hunter22", "EMPTY": ""})


def render(source: Any, **variables: Any) -> Any:
    made = templates()
    return made.render(source, Scope(made, [variables], FACTS))


def holds(source: str, **variables: Any) -> bool:
    made = templates()
    node = parse_nodes(source, "p.yml")
    assert node is not None
    return made.condition(node, Scope(made, [variables], FACTS))


@pytest.mark.parametrize(
    ("source", "variables", "value"),
    [
        ("plain", {}, "plain"),
        ("{{ 1 }}", {}, 1),
        ("{{ xs }}", {"xs": [1, "a", {"b": None}]}, [1, "a", {"b": None}]),
        ("{{ x }}", {"x": True}, True),
        ("{{ x }}", {"x": "3.10"}, "3.10"),
        ("v{{ x }}", {"x": 3}, "v3"),
        (" {{ 1 }}", {}, " 1"),
        ("a{{ none }}b", {}, "ab"),
        ("{{ a }}", {"a": "{{ b }}/{{ c }}", "b": "x", "c": "{{ b }}"}, "x/x"),
        ("{{ a.b[0] }}", {"a": {"b": ["{{ 1 + 1 }}"]}}, 2),
        ("{% if x %}yes{% else %}no{% endif %}", {"x": 0}, "no"),
        ("{% for x in xs if x > 1 %}{{ x }};{% endfor %}", {"xs": [1, 2, 3]}, "2;3;"),
        ("{% set y = x * 2 %}{{ y }}", {"x": 2}, "4"),
        ("{% raw %}{{ x }}{% endraw %}", {}, "{{ x }}"),
        ("{{ nb.platform }}", {}, "other"),
        ("{{ nb.looks_like }}", {}, "{{ template }}"),
        ("{{ xs | map('upper') }}", {"xs": ["a"]}, ["A"]),
        ("{{ {'a': 1}.items() | list }}", {}, [["a", 1]]),
        ("{{ range(3) }}", {}, [0, 1, 2]),
        ("{{ 'a' ~ 1 ~ none }}", {}, "a1"),
        ("{{ ['a'] + ['b'] }}", {}, ["a", "b"]),
        ("{{ 'a-%s' % 'b' }} {{ '{}'.format(1) }} {{ 'x' * 3 }} {{ 2 ** 8 }}", {}, "a-b 1 xxx 256"),
        ("{{ '<b>' | e }}", {}, "&lt;b&gt;"),
        ("{{ nope | default('x') }}", {}, "x"),
        ("{{ nope.a.b['c'] | default('x') }}", {}, "x"),
        ("{{ nb.nope.a | default('x') }}", {}, "x"),
        ("{{ a | default(3) }}", {"a": "{{ nope }}"}, 3),
        ("{{ a if nope is defined else 'b' }}", {"a": "{{ nope }}"}, "b"),
        ("{{ nope | default(omit) }}", {}, OMIT),
        ("{{ 'yes' | bool }}{{ 'x' | bool }}{{ true | bool }}", {}, "TrueFalseTrue"),
        ("{{ '/a/b.txt' | basename }} {{ '/a/b.txt' | dirname }}", {}, "b.txt /a"),
        ("{{ x | mandatory }}", {"x": 1}, 1),
        ("{{ lookup('env', 'HOME') }}/x{{ lookup('env', 'NOPE') | default('') }}", {}, "/home/u/x"),
        ("{{ lookup('env', 'NOPE') is defined }}", {}, False),
        ("{{ a | default('d') }}", {"a": "x{{ lookup('env', 'NOPE') }}"}, "d"),
        ("{{ lookup('env', 'NOPE', default='d') }}", {}, "d"),
        (["{{ x }}", {"k": "{{ x }}"}], {"x": 1}, [1, {"k": 1}]),
        ("text\n{{ 1 }}\n", {}, "text\n1\n"),
        ("{# a comment #}", {}, ""),
    ],
)
def test_values(source: Any, variables: dict[str, Any], value: Any) -> None:
    """One expression gives its value, whatever its type; anything else gives text."""
    found = render(source, **variables)
    assert found == value
    assert type(found) is type(value)


@pytest.mark.parametrize(
    ("source", "told"),
    [
        ("{{ colour }}", "variable 'colour' is not defined; did you mean 'color'?"),
        ("{{ nb.platfrm }}", "the mapping has no 'platfrm' (it has: envs, looks_like, platform)"),
        ("{{ nb.envs[7] }}", "the list has no entry 7"),
        ("{{ color.x }}", "a text has no 'x'"),
        ("{{ nope ~ 'x' }}", "variable 'nope' is not defined"),
        ("{{ [1, nope] }}", "variable 'nope' is not defined"),
        ("{% for x in nope %}{% endfor %}", "variable 'nope' is not defined"),
        ("{{ nope | mandatory('give nope') }}", "give nope"),
        ("{{ nope | mandatory }}", "variable 'nope' is not defined"),
        ("{{ a }}", "variable 'a' refers to itself: a -> b -> a"),
        ("{{ 'a' if false }}", "else"),
        ("{{ x", "the template is wrong"),
        ("{{ 1 | boll }}", "did you mean 'bool'?"),
        ("{{ 1 is evan }}", "did you mean 'even'?"),
        ("{% include 'x' %}", "the template fails"),
        ("{{ 1 / 0 }}", "ZeroDivisionError"),
        ("{{ lookup }}", "not a plain value"),
        ("{{ lookup('pipe', 'ls') }}", "the lookup 'pipe' is not supported"),
        ("{{ chain0 }}", "more than 30 levels deep"),
    ],
)
def test_mistakes(source: str, told: str) -> None:
    """Undefined is an error; a wrong template says what is wrong with it."""
    chain = {f"chain{n}": "{{ chain" + str(n + 1) + " }}" for n in range(100)}
    with pytest.raises(InvalidPlaybook) as caught:
        render(source, color="red", a="{{ b }}", b="{{ a }}", **chain)
    assert told in str(caught.value)


ESCAPES = [
    "{{ ''.__class__.__mro__ }}",
    "{{ ().__class__.__base__.__subclasses__() }}",
    "{{ lookup.__globals__ }}",
    "{{ lookup.__self__._sandbox }}",
    "{{ lookup['__func__'] }}",
    "{{ self.__init__.__globals__ }}",
    "{{ self._TemplateReference__context }}",
    "{{ range.__self__ }}",
    "{{ namespace.__init__.__globals__ }}",
    "{{ (''|attr('__class__')) }}",
    "{{ '{0.__class__.__mro__}'.format(1) }}",
    "{{ '{0.__class__}'.format_map({'0': 1}) }}",
    "{{ ['{0.__class__}']|map('format', 1)|list ~ lookup.__code__ }}",
    "{{ xs.append(1) }}",
    "{{ xs.clear() }}",
    "{{ nb.update({'platform': 'x'}) }}",
    "{{ dict.__mro__ }}",
    "{% set x = ''['__cl' ~ 'ass__'] %}{{ x }}",
    "{{ (1).__class__ }}",
    "{{ xs|map(attribute='__class__')|list }}",
]


@pytest.mark.parametrize("source", ESCAPES)
def test_nothing_gets_out(source: str) -> None:
    """Python's inner parts are out of reach, and nothing that is handed in can be changed."""
    xs = ["a"]
    with pytest.raises(InvalidPlaybook):
        render(source, xs=xs)
    assert xs == ["a"]
    assert FACTS["nb"]["platform"] == "other"


BEYOND_PYTHON = [
    ("{{ 'a' * 10**18 }}", "it needs too much memory"),
    ("{{ [0] * 10**30 }}", "OverflowError"),
    ("{{ '%1000000000000000000000d' % 1 }}", "ValueError"),
    ("{{ 2.0 ** 5000 }}", "OverflowError"),
    ("{{ 10 ** 5000 }}", "ValueError"),
    ("a{{ 10 ** 5000 }}", "ValueError"),
    ("{% macro m(n) %}{{ m(n - 1) }}{{ m(n - 1) }}{% endmacro %}{{ m(1000) }}", "it is nested too deep"),
    ("{{ " + "(" * 3000 + "1" + ")" * 3000 + " }}", "it is nested too deep"),
    ("{{ " + "1 + " * 9000 + "1 }}", "it is nested too deep"),
    ("{{ " + "[" * 60 + "]" * 60 + " }}", "nested more than 50 deep"),
    ("{{ " + "[" * 9000 + " }}", "it is nested too deep"),
]


@pytest.mark.parametrize(("source", "told"), BEYOND_PYTHON, ids=range(len(BEYOND_PYTHON)))
def test_what_python_cannot_do_is_an_error(source: str, told: str) -> None:
    """Too deep, too long, too large: as any other template that fails."""
    with pytest.raises(InvalidPlaybook) as caught:
        render(source)
    assert told in str(caught.value)


def test_a_template_that_cannot_be_compiled_is_an_error_where_it_is_only_checked() -> None:
    made = templates()
    with pytest.raises(InvalidPlaybook, match="nested too deep"):
        made.check(parse_nodes('"{{ ' + "(" * 3000 + "1" + ")" * 3000 + ' }}"', "p.yml"), Scope(made, []))


def test_a_template_may_make_much() -> None:
    """The author of a playbook is trusted: neither size nor steps are counted."""
    assert len(render("{{ 'a' * 10**6 }}")) == 10**6
    assert render("{% for i in range(300000) %}{% endfor %}x") == "x"
    assert render("x" * 70_000 + "{{ 1 }}") == "x" * 70_000 + "1"


@pytest.mark.parametrize(
    ("condition", "variables", "value"),
    [
        ("true", {}, True),
        ("no", {}, False),
        ("x", {"x": True}, True),
        ("x == 'a' and not y", {"x": "a", "y": []}, True),
        ("[x, y]", {"x": True, "y": False}, False),
        ("[x is defined, x.y == 1]", {}, False),
        ("[true, 'x > 2']", {"x": 3}, True),
        ("x is defined and x.y", {}, False),
        ("'{{ x }}'", {"x": False}, False),
        ("x", {"x": "text"}, True),
        ("x", {"x": ""}, False),
        ("x", {"x": None}, False),
        ("-1 < x", {"x": 0}, True),
        ("flag | bool", {"flag": "false"}, False),
        ("nb.platform in ['other']", {}, True),
        ("0", {}, False),
    ],
)
def test_conditions(condition: str, variables: dict[str, Any], value: bool) -> None:
    """A condition counts as Ansible counts it; a list holds if all of it does, and stops at the first that does not."""
    assert holds(condition, **variables) is value


def test_the_position_is_that_of_the_string_at_fault() -> None:
    """An error in a variable points to the variable, not to where it is used."""
    made = templates()
    written = Scalar(Position("p.yml", 3, 9), "{{ nope }}", "{{ nope }}", plain=False)
    used = Scalar(Position("p.yml", 9, 1), "{{ a }}", "{{ a }}", plain=False)
    with pytest.raises(InvalidPlaybook) as caught:
        made.render(used, Scope(made, [{"a": written}]))
    assert caught.value.position == Position("p.yml", 3, 9)


def test_what_is_read_from_outside_is_remembered(tmp_path: Path) -> None:
    """Environment variables and files are inputs; a password among them is masked from then on."""
    made = templates(tmp_path)
    (tmp_path / "name.txt").write_text("fraud\n")
    scope = Scope(made, [{"index_password": "correct horse", "use_token": "true"}])
    assert made.render("{{ lookup('env', 'PIP_TOKEN') }}", scope) == "hunter22"
    assert made.render("{{ lookup('file', 'name.txt') }}", scope) == "fraud"
    made.render("{{ index_password }}{{ use_token }}", scope)
    assert made.outside.env_read == {"PIP_TOKEN"}
    assert set(made.outside.looked_at) == {tmp_path / "name.txt"}
    assert secrets.mask("hunter22 and correct horse are true") == "**** and **** are true"


def test_without_a_template_jinja_is_not_imported() -> None:
    """Jinja2 takes longer to import than all else that reads a playbook."""
    import subprocess
    import sys

    code = (
        "import sys; from pathlib import Path; from nbprovision.playbook.template import Scope, Templates\n"
        "made = Templates(Path('/'), {}); made.render(['a', {'b': 'c'}], Scope(made, []))\n"
        "sys.exit('jinja2' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0
