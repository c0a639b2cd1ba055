"""Ways out of Jinja2's sandbox, as they have been published and as the filters here would offer them: none leads out."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from nbprovision.model.errors import InvalidPlaybook
from nbprovision.playbook.outside import Outside
from nbprovision.playbook.sandbox import Sandbox
from nbprovision.playbook.template import Scope, Templates

REFUSED = [
    "{{ ''['__class__'] }}",
    "{{ xs.__class__ }}",
    "{{ ''|attr('__class__') }}",
    "{{ ''|attr('\\x5f\\x5fclass__') }}",
    "{{ ''|attr(['__cl','ass__']|join) }}",
    "{{ '%s' % ''.__class__ }}",
    "{{ '{0.__class__}'.format('') }}",
    "{{ '{x.__class__}'.format(x='') }}",
    "{{ '{0[__class__]}'.format(m) }}",
    "{{ '{0.append}'.format(xs) }}",
    "{{ '{a.__class__}'.format_map({'a': 1}) }}",
    "{{ 'a{0.__class__}'|format(1) }}",
    "{{ '%(__class__)s' % m }}",
    "{{ '%(__class__)s' | format(**m) }}",
    "{{ ['{0.__class__}']|map('format', 1)|list }}",
    "{% set f = '{0.__class__}'.format %}{{ f(1) }}",
    "{% set f = '{0.__class__}'['format'] %}{{ f(1) }}",
    "{% set f = '{0.__class__}'|attr('format') %}{{ f(1) }}",
    "{% set f = '{a.__class__}'|attr('format_map') %}{{ f({'a': 1}) }}",
    "{{ lipsum.__globals__ }}",
    "{{ lipsum() }}",
    "{{ cycler.__init__.__globals__ }}",
    "{{ joiner.__init__ }}",
    "{{ namespace.__class__ }}",
    "{% set n = namespace(a=1) %}{{ n.__class__ }}",
    "{% set n = namespace(a=1) %}{{ n._Namespace__attrs }}",
    "{% set n = namespace(a=1) %}{{ n|attr('_Namespace__attrs') }}",
    "{% set n = namespace(__class__=1) %}{{ n.__class__ }}",
    "{% set n = namespace() %}{% set n.__class__ = dict %}{{ n }}",
    "{{ self }}",
    "{% block b %}{{ self.b.__globals__ }}{% endblock %}",
    "{% block b %}{{ self.b._context }}{% endblock %}",
    "{% macro m() %}{{ caller.__globals__ }}{% endmacro %}{% call m() %}x{% endcall %}",
    "{% macro m() %}{{ caller._func }}{% endmacro %}{% call m() %}x{% endcall %}",
    "{% macro m() %}{{ varargs.__class__ }}{% endmacro %}{{ m(1) }}",
    "{% macro m() %}{{ kwargs.__class__ }}{% endmacro %}{{ m(a=1) }}",
    "{% macro m() %}x{% endmacro %}{{ m._func }}",
    "{% macro m() %}x{% endmacro %}{{ m._environment }}",
    "{% macro m() %}x{% endmacro %}{{ m.name.__class__ }}",
    "{% macro m() %}x{% endmacro %}{{ m|attr('_func') }}",
    "{% macro m() %}x{% endmacro %}{{ m['_environment'] }}",
    "{% for i in xs %}{{ loop.__class__ }}{% endfor %}",
    "{% for i in xs %}{{ loop._iterator }}{% endfor %}",
    "{% for i in xs %}{{ loop._undefined }}{% endfor %}",
    "{% for i in xs %}{{ loop|attr('_recurse') }}{% endfor %}",
    "{{ dict.__subclasses__() }}",
    "{{ dict.mro() }}",
    "{{ dict|attr('mro') }}",
    "{{ lookup.__func__ }}",
    "{{ query.__self__ }}",
    "{{ query.im_func }}",
    "{{ omit.__class__ }}",
    "{{ omit._name }}",
    "{{ omit.__reduce__() }}",
    "{{ (xs|map('upper')).gi_frame }}",
    "{{ (xs|map('upper'))|attr('gi_frame') }}",
    "{{ (xs|map('upper')).gi_code }}",
    "{{ (xs|batch(1)).gi_frame.f_globals }}",
    "{{ (xs|map('upper'))['gi_frame'] }}",
    "{{ (xs|map('upper')).cr_frame }}",
    "{{ (xs|map('upper')).send(1) }}",
    "{{ (xs|map('upper')).throw('x') }}",
    "{{ xs|map(attribute='0.__class__')|list }}",
    "{{ [xs]|map(attribute='0.__class__.__mro__')|list }}",
    "{{ xs|map('attr', '__class__')|list }}",
    "{{ xs|map('attr', 'upper')|list }}",
    "{{ xs|sort(attribute='__class__') }}",
    "{{ xs|sort(attribute='__class__.__name__') }}",
    "{{ xs|groupby('__class__') }}",
    "{{ xs|groupby('__doc__') }}",
    "{{ xs|selectattr('__class__')|list }}",
    "{{ xs|selectattr('__class__.__name__', 'equalto', 'str')|list }}",
    "{{ xs|rejectattr('__doc__')|list }}",
    "{{ xs|unique(attribute='__class__')|list }}",
    "{{ xs|min(attribute='__class__') }}",
    "{{ xs|max(attribute='__doc__') }}",
    "{{ xs|sum(attribute='__class__') }}",
    "{{ xs|join(',', attribute='__class__') }}",
    "{{ xs|join(attribute='__doc__') }}",
    "{{ xs|items2dict(key_name='__class__', value_name='__doc__') }}",
    "{{ xs|subelements('__class__') }}",
    "{{ xs|json_query('__class__') }}",
    "{{ xs|extract('__class__') }}",
    "{{ ['__class__']|map('extract', xs)|list }}",
    "{{ '__class__'|extract('') }}",
    "{{ 0|extract(xs, '__class__') }}",
    "{{ 0|extract(xs, ['__class__', '__mro__']) }}",
    "{{ 'a'|extract({'a': {}}, morekeys='__class__') }}",
    "{{ m|combine(m.__class__) }}",
    "{{ m|combine(m, recursive=true, list_merge='__class__') }}",
    "{{ 'x'|regex_replace('x', '\\\\g<__class__>') }}",
    "{{ 'x'|regex_replace('x', xs.append) }}",
    "{{ 'x'|regex_replace('x', dict) }}",
    "{{ 'x'|regex_findall('(?{__import__(\"os\")})') }}",
    "{{ '!!python/object/apply:os.system [touch CANARY]'|from_yaml }}",
    "{{ '!!python/name:os.system'|from_yaml }}",
    "{{ '!!python/module:os'|from_yaml }}",
    "{{ '!!python/object:builtins.object {}'|from_yaml }}",
    "{{ '!!python/object/new:os.system [id]'|from_yaml }}",
    "{{ '!!binary aGk='|from_yaml }}",
    "{{ dict|to_json }}",
    "{{ lookup|to_json }}",
    "{{ dict|to_yaml }}",
    "{{ range|tojson }}",
    "{{ lookup ~ '' }}",
    "{{ 'x'|hash('__class__') }}",
    "{{ 'x'|hash('shake_128') }}",
    "{{ 'x'|b64decode('unicode_escape') }}",
    "{{ 'x'|b64encode('rot13') }}",
    "{{ 'x'|checksum('os.system') }}",
    "{{ '__class__'|ternary('x'.__class__, 1) }}",
    "{{ nope|default(''.__class__) }}",
    "{{ nope.__class__ }}",
    "{{ nope._fail_with_undefined_error() }}",
    "{{ nope._undefined_exception }}",
    "{{ nope|attr('_undefined_exception') }}",
    "{{ (nope|default(omit)).__class__ }}",
    "{% import 'os' as os %}",
    "{% from 'os' import system %}",
    "{% include '/etc/passwd' %}",
    "{% include '../../etc/passwd' ignore missing %}",
    "{% extends '/etc/passwd' %}",
    "{% include ['a', '/etc/passwd'] %}",
    "{% import lookup as x %}",
    "{% do xs.append(1) %}",
    "{% debug %}",
    "{% trans %}x{% endtrans %}",
    "{{ xs.__setitem__(0, 1) }}",
    "{{ xs.sort() }}",
    "{{ xs.pop() }}",
    "{{ m.pop('a') }}",
    "{{ m.setdefault('z', 1) }}",
    "{{ m.update(z=1) }}",
    "{{ m.__init__(z=1) }}",
    "{{ xs|map('append', 1)|list }}",
    "{{ xs|map('__class__')|list }}",
    "{{ xs|map('os.system')|list }}",
    "{{ xs|map('map', '__class__')|list }}",
    "{{ xs|select('__class__')|list }}",
    "{{ xs|map('to_json')|map('attr', '__class__')|list }}",
    "{{ ''.join.__self__ }}",
    "{{ ''.join.__func__ }}",
    "{{ ''.upper.__class__ }}",
    "{{ ''.__getattribute__('__class__') }}",
    "{{ ''.__reduce_ex__(4) }}",
    "{{ 'a'.encode().__class__ }}",
    "{{ ''[('_' * 2 ~ 'class' ~ '_' * 2)] }}",
    "{{ ''['__CLASS__'|lower] }}",
    "{{ ''['__class__'|reverse|reverse] }}",
    "{{ (1).__class__.__bases__[0].__subclasses__() }}",
    "{{ (1).real.__class__ }}",
    "{{ (1.0).hex.__self__ }}",
    "{{ true.__class__ }}",
    "{{ none.__class__ }}",
    "{{ ''|attr('upper')|attr('__self__') }}",
    "{{ environment }}",
    "{{ context }}",
    "{{ get_flashed_messages.__globals__ }}",
    "{{ config }}",
    "{{ request }}",
    "{{ url_for.__globals__ }}",
    "{{ __builtins__ }}",
    "{{ __import__('os') }}",
    "{{ _ }}",
    "{{ nbprovision_result }}",
    "{{ nb.__class__ }}",
    "{{ nb['__class__'] }}",
    "{{ nb|attr('_store') }}",
    "{{ nb.items.__self__ }}",
    "{{ ''|e|attr('__class__') }}",
    "{{ (''|e).__html__() }}",
    "{{ (''|e).unescape.__self__ }}",
    "{% set x = '{0.__class__}'|e %}{{ x.format(1) }}",
    "{% set x = '{0.__class__}'|e %}{{ (x ~ '').format(1) }}",
    "{{ ('{0.__class__}'|e).format(lookup) }}",
    "{{ ('{0.__class__}'|e).format_map({'0': 1}) }}",
    "{{ 'x' is __class__ }}",
    "{{ xs|list|attr('__iter__') }}",
    "{{ m|attr('__dict__') }}",
    "{{ m|items|list|first|attr('__class__') }}",
    "{{ (m.items()).__class__ }}",
    "{{ m.items().mapping.__class__ }}",
    "{{ (m.items()).mapping.update(z=1) }}",
    "{{ range(3).__class__ }}",
    "{{ range(3).index.__self__ }}",
    "{{ loop.__class__ }}",
    "{{ xs|pprint|attr('__class__') }}",
    "{{ lookup('pipe', 'touch CANARY') }}",
    "{{ lookup('__class__') }}",
    "{{ query('template', '/etc/passwd') }}",
    "{{ lookup('env', 'X', __class__=1) }}",
    "{{ lookup(lookup) }}",
    "{{ dict(__class__=1).__class__ }}",
    "{{ dict(a=1)|xmlattr }}",
    "{{ xs|tojson|attr('__class__') }}",
    "{{ xs|random }}",
    "{{ xs|zip(lookup)|list }}",
    "{{ 'a'.maketrans('a', 'b').__class__ }}",
    "{{ xs.copy().append(1) }}",
    "{{ xs.copy.__self__ }}",
    "{{ (xs|select).gi_yieldfrom }}",
    "{% set f = '{0.__class__}'|e|attr('format') %}{{ f(1) }}",
    "{% set f = '{0.__class__}'|e|attr('format_map') %}{{ f({'0': 1}) }}",
]
# What only looks like a way out: a name is a word like others where it is no attribute.
HARMLESS: list[tuple[str, Any]] = [
    ("{{ dict['mro']() }}", {}),
    ("{{ dict.fromkeys(xs) }}", {"a": None, "b": None}),
    ("{{ (xs|map('upper')).close() }}", None),
    ("{{ m|dict2items(key_name='__class__') }}", [{"__class__": "a", "value": 1}]),
    ("{{ m|combine({'__class__': 1}) }}", {"a": 1, "__class__": 1}),
    ("{{ 'x'|regex_search('(?P<__class__>x)', '\\\\g<__class__>') }}", ["x"]),
    ("{{ ['/a', '__class__']|path_join }}", "/a/__class__"),
    ("{{ ['a', 1]|path_join }}", "a/1"),
    ("{{ '{\"__class__\": 1}'|from_json }}", {"__class__": 1}),
    ("{{ 'x'|type_debug }}", "str"),
    ("{{ lookup|type_debug }}", "method"),
    ("{{ 'x'|quote }}", "x"),
    ("{{ 'x'|default('x'.__class__) }}", "x"),
    ("{% autoescape true %}x{% endautoescape %}", "x"),
    ("{{ 'a'.encode().decode('unicode_escape') }}", "a"),
    ("{{ ('_' * 2 ~ 'class' ~ '_' * 2)|map('upper')|list }}", ["_", "_", "C", "L", "A", "S", "S", "_", "_"]),
    ("{{ 'x' is callable }}", False),
    ("{{ lookup is callable }}", True),
    ("{{ dict is filter }}", False),
    ("{{ lookup('first_found', {'files': lookup}, skip=true) }}", ""),
    ("{{ 'a'.translate({97: '__'}) }}", "__"),
]


class Probe:
    """Has an attribute that templates must not have."""

    _hidden = "had"


def render(source: str, folder: Path, **variables: Any) -> Any:
    made = Templates(folder, {})
    return made.render(source, Scope(made, [variables], {"nb": {"platform": "other", "envs": ["a"]}}))


@pytest.mark.parametrize("source", REFUSED)
def test_refused(source: str, tmp_path: Path) -> None:
    xs, m = ["a", "b"], {"a": 1}
    with pytest.raises(InvalidPlaybook) as caught:
        render(source, tmp_path, xs=xs, m=m)
    assert "0x" not in str(caught.value)
    assert "built-in function __import__" not in str(caught.value)
    assert (xs, m) == (["a", "b"], {"a": 1})
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(("source", "value"), HARMLESS)
def test_harmless(source: str, value: Any, tmp_path: Path) -> None:
    assert render(source, tmp_path, xs=["a", "b"], m={"a": 1}) == value


@pytest.mark.parametrize("text", ["a{{ lookup }}", "{{ 'a' ~ lookup }}", "{{ 'a' ~ dict }}b", "x{{ range }}"])
def test_no_address_gets_into_a_text(text: str, tmp_path: Path) -> None:
    """It would be another text in each run."""
    with pytest.raises(InvalidPlaybook, match="not a plain value"):
        render(text, tmp_path)


def test_a_generator_is_written_as_its_list(tmp_path: Path) -> None:
    assert render("a{{ xs | map('upper') }}{{ '' ~ xs | map('upper') }}", tmp_path, xs=["b"]) == "a['B']['B']"


def test_no_filter_has_a_hidden_attribute(tmp_path: Path) -> None:
    """Every filter and test, in every place where it may take the name of an attribute."""
    forms = [
        "probe|F('H')", "probe|F(attribute='H')", "[probe, probe]|F(attribute='H')|list", "[probe]|map('F', 'H')|list",
        "0|F([probe], 'H')", "[[probe]]|F('0.H')|list", "'{0.H}'|F(probe)", "[probe]|F('H', 'eq', 'had')|list",
    ]  # fmt: skip
    templates = Templates(tmp_path, {})
    sandbox = Sandbox(Outside(tmp_path, {}))
    sandbox.globals["probe"] = Probe()
    rendered = 0
    for name in {*sandbox.filters, *sandbox.tests}:
        for form in forms if name.isidentifier() else ():
            try:
                found = sandbox.evaluate(
                    "{{ " + form.replace("F", name).replace("H", "_hidden") + " }}", Scope(templates, [], {})
                )
            except InvalidPlaybook:
                continue
            assert "had" not in str(found), (name, form)
            rendered += 1
    assert rendered > 20
