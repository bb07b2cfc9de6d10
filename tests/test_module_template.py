"""template: Go's and Jinja2's ways to fill in a text, and named attacks on time, memory and Python."""

from __future__ import annotations

import json
import time
from functools import cache
from typing import Any

import jinja2
import pytest
from chunks import error, event, library, output, runtime
from chunks import execute as execute_within

from hook_event_processor.lua.door import Failed
from hook_event_processor.lua.modules import template as module
from hook_event_processor.lua.runtime import Runtime
from hook_event_processor.run import ChunkResult

_START = "local template, json = require('template'), require('json')\n"


@cache
def _runtime() -> Runtime:
    return runtime(library=library())


def execute(body: str, *events: list[object]) -> ChunkResult:
    return execute_within(_START + body, *events, within=_runtime())


def _rendered(text: str, data: object = None, strict: bool = False) -> str:
    """What a hook gets for the template."""
    body = (
        "local text, reason = template.render(event.data.template, event.data.fields,"
        f" {{ strict = {str(strict).lower()} }}) assert(text, reason) return true, '[' .. text .. ']'"
    )
    return output(execute(body, event(json.dumps({"template": text, "fields": data or {}}))))[1:-1]


def _reason(text: str, data: object = None, strict: bool = False) -> str:
    """Why the template cannot be rendered; by way of Python, to measure what it takes."""
    started = time.thread_time()
    with pytest.raises(Failed) as failed:
        module.render(None, text.encode(), json.dumps(data or {}).encode(), strict)  # type: ignore[arg-type]
    # Far less alone; the first one brings Jinja2 with it.
    assert time.thread_time() - started < 1
    return str(failed.value)


_TASK = {"name": "deploy", "task": {"name": "build", "ok": True, "tags": ["a", "b"]}, "items": [{"n": 1}, {"n": 2}]}


@pytest.mark.parametrize(
    ("text", "result"),
    [
        ("{{.name}}", "deploy"),
        ("{{ .task.name }}!", "build!"),
        ("{{- .name -}} ", "deploy"),
        ("{% if .task.ok %}{{ .name|upper }}{% endif %}", "DEPLOY"),
        ("{{ .name ~ .task.name }}", "deploybuild"),
        ("{% for item in .items %}{{ item.n }}{% endfor %}", "12"),
        ("{{ name }} {{ task.tags[1] }}", "deploy b"),
        ("{% raw %}{{.name}}{% endraw %}", "{{.name}}"),
        ("{{ '.name' }}", ".name"),
        ("{{ items[0].n + .items[1].n }}", "3"),
    ],
)
def test_names_with_and_without_a_leading_dot(text: str, result: str) -> None:
    assert _rendered(text, _TASK) == result


def test_the_payload_of_the_event_is_data() -> None:
    body = "return true, template.render('{{.task_name}} on {{.agent.name}}', event.data)"
    payload = '{"task_name": "build", "agent": {"name": "web1"}}'
    assert output(execute(body, event(payload))) == "build on web1"


_JINJA_DATA: dict[str, Any] = {
    "name": "Ada <ada@example.org>",
    "n": 7,
    "ratio": 2.5,
    "words": ["pear", "Apple", "fig", "apple"],
    "rows": [{"k": "x", "v": 3}, {"k": "y", "v": 1}, {"k": "x", "v": 2}],
    "map": {"a": 1, "b": 2},
    "text": "one two\nthree  four\n\nfive",
    "tree": [1, [2, [3, 4]], 5],
}
# What Jinja2 itself makes of these is the truth.
_JINJA = [
    "{{ name }} {{ n }} {{ ratio }} {{ missing }} {{ missing|default('d') }} {{ ''|default('d', true) }}",
    "{{ n + 1 }} {{ n - 1 }} {{ n * 2 }} {{ n / 2 }} {{ n // 2 }} {{ n % 3 }} {{ n ** 2 }} {{ -n }} {{ 'ab' * 3 }}",
    "{{ n > 6 and n < 8 and 'in' or 'out' }} {{ 'y' if n == 7 else 'n' }} {{ 'y' if not n }} {{ 1 < n < 9 and 1 }}",
    "{{ name ~ '-' ~ n }} {{ 'a' + 'b' }} {{ words[0] }} {{ words[-1] }} {{ words[1:3]|join }} {{ name[:3] }}",
    "{% for w in words %}{{ loop.index }}{{ loop.revindex0 }}{{ w }}{{ ',' if not loop.last }}{% endfor %}",
    "{% for w in words if w != 'fig' %}{{ loop.index0 }}{{ loop.length }}{{ w }}{% else %}none{% endfor %}",
    "{% for w in [] %}x{% else %}none{% endfor %}{% for i in range(2, 9, 3) %}{{ i }}{% endfor %}",
    "{% for i in range(9) %}{% if i == 2 %}{% continue %}{% elif i > 4 %}{% break %}{% endif %}{{ i }}{% endfor %}",
    "{% for i in range(3) %}{{ loop.cycle('a', 'b') }}{{ loop.previtem }}{{ loop.nextitem }}{% endfor %}",
    "{% for r in rows %}{% if loop.changed(r.k) %}{{ r.k }}{% endif %}{{ r.v }}{% endfor %}",
    "{% for t in tree recursive %}{{ '(' ~ loop(t) ~ loop.depth ~ ')' if t is iterable else t }}{% endfor %}",
    "{% for k, v in map.items() %}{{ k }}={{ v }};{% endfor %}{% for k, v in map|dictsort %}{{ k }}{{ v }}{% endfor %}",
    "{% set x = 1 %}{% for i in range(3) %}{% set x = x + i %}{{ x }}{% endfor %}{{ x }}",
    "{% set ns = namespace(x=1) %}{% for i in range(3) %}{% set ns.x = ns.x + i %}{% endfor %}{{ ns.x }}",
    "{% set a, b = 1, 2 %}{{ a }}{{ b }}{% set t %}<{{ a }}>{% endset %}{{ t }}",
    "{% set u | upper %}x{{ a }}{% endset %}{{ u }}",
    "{% macro m(a, b='B') %}{{ a }}{{ b }}{% endmacro %}{{ m(1) }}{{ m(1, 2) }}{{ m(b=3, a=4) }}{{ m() }}",
    "{% macro m(a) %}<{{ a }}{{ caller() }}>{% endmacro %}{% call m(1) %}{{ n }}{% endcall %}",
    "{% macro f(k) %}{{ k }}{% if k %}{{ f(k - 1) }}{% endif %}{% endmacro %}{{ f(5) }}",
    "{% filter upper|replace('A', '-') %}abc{{ name }}{% endfilter %}{% with q = 5 %}{{ q }}{% endwith %}{{ q }}",
    "{{ words|sort|join(',') }} {{ words|sort(reverse=true)|first }} {{ words|unique|join }} {{ words|length }}",
    "{{ words|map('upper')|join }} {{ rows|map(attribute='k')|join }} {{ rows|sum(attribute='v') }} {{ words|last }}",
    "{{ rows|selectattr('v', 'gt', 1)|map(attribute='v')|join }} {{ rows|rejectattr('k', 'eq', 'x')|list|count }}",
    "{{ [1, 2, 3]|select('odd')|join }} {{ [0, 1]|select|join }} {{ [1, 2]|reject('even')|join }} {{ [3, 1]|max }}",
    "{% for g in rows|groupby('k') %}{{ g.grouper }}{{ g.list|map(attribute='v')|join }}{% endfor %}",
    "{{ rows|sort(attribute='v')|map(attribute='v')|join }} {{ rows|min(attribute='v')|length }} {{ words|min }}",
    "{% for row in range(7)|batch(3, 'x') %}{{ row|join }};{% endfor %}",
    "{% for row in range(7)|slice(3) %}{{ row|join }};{% endfor %}",
    "{{ 'abc'|center(9) }}|{{ text|indent }}|{{ text|indent(2, true) }}|{{ text|indent('> ', blank=true) }}",
    "{{ name|e }} {{ name|upper }} {{ 'hello world'|title }} {{ 'hELLO'|capitalize }} {{ '  x '|trim }} ",
    "{{ 'xax'|trim('x') }}",
    "{{ \"it's o'neil's\"|title }} {{ 'ONE-two (three) [four]  {five} <six> seven_eight 9nine ß'|title }}",
    "{{ text|truncate(9) }} {{ text|truncate(9, true, '') }} {{ text|wordcount }} {{ text|wordwrap(5) }}",
    "{{ 'a-b-a'|replace('a', 'x') }} {{ 'a-b-a'|replace('a', 'x', 1) }} {{ 'abc'|reverse }} {{ [1, 2]|reverse|join }}",
    "{{ '%s is %d, %.2f%%'|format('x', 3, 2.5) }} {{ 2.567|round(1) }} {{ 2.1|round(0, 'ceil') }} {{ -3|abs }}",
    "{{ '12'|int + 1 }} {{ 'x'|int(5) }} {{ '1.5'|float }} {{ 'ff'|int(0, 16) }} {{ 3.9|int }} {{ 5|string ~ 1 }}",
    "{{ '1e5'|int }} {{ ' -42.9 '|int }} {{ 'inf'|int }} {{ 'nan'|int }} {{ '1_0'|int }} {{ '1.5'|int(0, 16) }}",
    "{{ 'a b/ä&'|urlencode }} {{ {'a': 'x y', 'b': 1}|urlencode }} {{ 'a,b'.split(',')|join('|') }} {{ 'a'.upper() }}",
    "{{ 'pear' in words }} {{ 'x' not in words }} {{ 'ea' in 'pear' }} {{ 'a' in map }}".replace("}}", "and 1 }}"),
    "{{ n is odd and 1 }}{{ n is divisibleby 7 and 1 }}{{ x is defined or 2 }}{{ none is none and 3 }}",
    "{{ n is number and 4 }}",
    "{{ n is string or 1 }}{{ map is mapping and 2 }}{{ 'a' is in 'abc' and 3 }}{{ n is eq 7 and 4 }}",
    "{{ 'A' is upper and 5 }}",
    "{{ ''|default(default_value='d', boolean=true) }}{{ 2.55|round(precision=1, method='floor') }}",
    "{{ words|join(d='-') }}",
    "{{ text|truncate(length=9, killwords=true, end='.', leeway=0) }}{{ 'x'|center(width=5) }}{{ 'z'|int(default=4) }}",
    "{{ range(5)|batch(linecount=3, fill_with=0)|list|last|join }}",
    "{{ range(5)|slice(slices=2, fill_with=9)|list|last|join }}",
    "{# a comment #}a{%- if true -%} b {%- endif %} c",
    "{{ map.get('z', 'none') }}{{ map['a'] }}{{ {'k': [1, 2]}.k[1] }}",
    "{{ 'x'.startswith('x') and 1 }}{{ ' a '.strip() }}{{ 'a\nb'.splitlines()|join('+') }}{{ 'aXa'.count('a') }}",
    "{{ words|join(', ')|length }} {{ rows[0]['k'] }} {{ rows[9] }} {{ missing|length }} {{ words|first|first }}",
]


@pytest.mark.parametrize("text", _JINJA)
def test_it_renders_what_jinja2_renders(text: str) -> None:
    truth = jinja2.Environment(extensions=["jinja2.ext.loopcontrols"]).from_string(text).render(_JINJA_DATA)
    assert _rendered(text, _JINJA_DATA) == truth


@pytest.mark.parametrize(
    ("text", "result"),
    [
        ("{{ true }} {{ false }} {{ none }}|{{ nothing }}|", "true false ||"),
        ("{{ 1.0 }} {{ 0.1 + 0.2 }} {{ 1e300 }} {{ 9223372036854775807 }}", "1.0 0.3 1e+300 9223372036854775807"),
        ("{{ list }} {{ map }}", '[1,"x",null,true] {"items":[],"k":{}}'),
        ("{{ map.items }}", "[]"),
        ("{{ list|tojson }} {{ 'a\"b'|tojson }}", '[1,"x",null,true] "a\\"b"'),
        ("{{ {'a': [1]}|tojson(2) }}", '{\n  "a": [\n    1\n  ]\n}'),
        ("x\n", "x\n"),
        ("", ""),
        ("{{ a.b.c }}{% for x in a.b %}{% endfor %}{{ 'no' if not a.b }}", "no"),
    ],
)
def test_values_are_written_as_hooks_write_them(text: str, result: str) -> None:
    data = {"list": [1, "x", None, True], "map": {"items": [], "k": {}}, "nothing": None}
    assert _rendered(text, data) == result


@pytest.mark.parametrize(
    "text", ["{{ a }}", "{{ a.b }}", "{% if a %}{% endif %}", "{% for x in a %}{% endfor %}", "{{ a|upper }}"]
)
def test_strict_makes_an_undefined_name_a_reason(text: str) -> None:
    assert _rendered(text) == ""
    assert _reason("x\n" + text, strict=True) == "template.render: line 2: a is undefined"


def test_strict_templates_can_ask_for_what_is_defined() -> None:
    text = "{{ a|default('d') }}{{ 'no' if b is not defined }}{{ c is undefined }}{{ d.e }}"
    assert _rendered(text, {"d": {"e": 1}}, strict=True) == "dnotrue1"


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("a\n{{ x y }}", "line 2: expected token 'end of print statement', got 'y'"),
        ("{% if x %}", "line 1: Unexpected end of template"),
        ("a\n{{ 'x'|foo }}", "line 2: there is no filter 'foo'"),
        ("{{ 1 is foo }}", "line 1: there is no test 'foo'"),
        ("{% include 'x' %}", "line 1: {% include %} is not available in a hook's template"),
        ("{% extends 'x' %}", "line 1: {% extends %} is not available"),
        ("{% import 'x' as y %}", "line 1: {% import %} is not available"),
        ("{% break %}", "line 1: {% break %} stands outside of a loop"),
        ("\n\n{{ 1 / 0 }}", "line 3: division by zero"),
        ("{{ 1 + 'a' }}", "line 1: + between a number and a text"),
        ("{{ 1 + a }}", "line 1: + between a number and a (undefined)"),
        ("{{ a() }}", "line 1: a is undefined"),
        ("{{ 'x'() }}", "line 1: a text cannot be called"),
        ("{{ {[]: 1} }}", "line 1: a list cannot be a key"),
        ("{% set a, b = [1] %}", "line 1: 1 items for 2 names"),
        ("{{ [1, 'a']|sort }}", "line 1: sorting takes items that are all numbers, or all texts"),
        ("{{ 'x'|truncate('y') }}", "line 1: a text where a whole number from 3 to"),
        ("{{ 'x'|upper(1) }}", "line 1: the filter upper does not take these arguments"),
        ("{% macro m(a) %}{% endmacro %}{{ m(1, 2) }}", "line 1: m takes a"),
        ("{{ range(1, *[2]) }}", "line 1: * and ** are not available"),
    ],
)
def test_what_is_wrong_is_a_reason_with_its_line(text: str, reason: str) -> None:
    assert _reason(text).startswith(f"template.render: {reason}")


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        ("nil", "template.render takes a string as its template, not a nil"),
        ("'x', 5", "template.render takes a table as its data, not a number"),
        ("'x', json.null", "template.render takes a table as its data, not a table"),
        ("'x', { 1, 2 }", "template.render takes a table with named fields as its data"),
        ("'x', { a = '\\xff' }", "template.render: the data cannot be read: "),
        ("'\\xff', {}", "template.render: the template is not UTF-8"),
        ("'x', {}, true", "template.render takes a table of options, not a boolean"),
        ("'x', {}, { stict = true }", "template.render: unknown option stict; it takes strict"),
        ("'x', {}, { strict = 1 }", "template.render: strict takes true or false"),
    ],
)
def test_misuse_names_function_and_line(arguments: str, reason: str) -> None:
    assert error(execute(f"local _ = template.render({arguments})")).startswith(f"hook.lua:4: {reason}")


def test_data_may_be_left_out() -> None:
    assert output(execute("return true, template.render('a{{ b }}')")) == "a"


# Attacks on Python: what they ask for is no field of anything.


@pytest.mark.parametrize(
    "text",
    [
        "{{ ''.__class__ }}",
        "{{ ''['__class__']['__mro__'] }}",
        "{{ [].__class__.__base__.__subclasses__ }}",
        "{{ (1).__class__ }}{{ (1).real }}",
        "{{ x.__init__.__globals__ }}{{ x.__dict__ }}",
        "{{ range.__call__ }}{{ range.call }}{{ namespace.__init__ }}{{ dict.mro }}",
        "{{ cycler.__init__.__globals__ }}{{ lipsum }}{{ self }}{{ joiner }}{{ config }}{{ request }}",
        "{% macro m() %}{% endmacro %}{{ m.__globals__ }}{{ m.call }}{{ m.name }}",
        "{% for i in [1] %}{{ loop.__class__ }}{{ loop.items }}{{ loop.again }}{{ loop._iterator }}{% endfor %}",
        "{% set ns = namespace() %}{{ ns.__class__ }}{{ ns.fields }}{{ ns['fields'] }}",
        "{{ missing.__class__ }}{{ missing.name }}",
        "{{ 'x'.upper.__self__ }}{{ 'x'.upper.call }}{{ 'x'.encode }}{{ 'x'.format_map }}",
        "{{ [{}]|map(attribute='__class__')|join }}{{ [1]|map(attribute='__class__.__mro__')|join }}",
    ],
)
def test_no_attribute_of_python_is_within_reach(text: str) -> None:
    assert _rendered(text, {"x": {}}) == ""


@pytest.mark.parametrize(
    "text",
    [
        "{{ ''|attr('__class__') }}",
        "{{ ''.__class__() }}",
        "{{ '{0.__class__}'.format(1) }}",
        "{{ '{0.__class__}'|format(1) }}",
        "{{ '%(a)s'|format(a=1) }}",
        "{{ [1]|map('attr', '__class__')|list }}",
        "{{ [1]|map('__class__')|list }}",
        "{{ [].append(1) }}",
        "{{ x.update(a=1) }}",
        "{% set ns = namespace() %}{% set x.a = 1 %}",
        "{{ range }}",
        "{{ namespace() }}",
        "{{ [namespace()]|tojson }}",
    ],
)
def test_what_would_hand_out_or_change_an_object_is_refused(text: str) -> None:
    _reason(text, {"x": {}})


# Attacks on time and memory.

_ENDLESS = "the template takes too many steps"
_HUGE = "the template makes more than 1048576 characters"
_HEAVY = "a list or mapping of more than 20000 values"
_NS = "{% set ns = namespace(x='xx', l=[1], d={}) %}{% for i in range(60) %}"
EXHAUSTING = {
    "a long repetition": ("{{ 'x' * 10**9 }}", _HUGE),
    "nested loops": ("{% for a in range(9999) %}{% for b in range(9999) %}{% endfor %}{% endfor %}", _ENDLESS),
    "nested conditions": ("{% for a in range(9999) if range(9999)|sum %}{% endfor %}", _ENDLESS),
    "a long range": ("{{ range(10**9)|length }}", "a range of more than 10000 numbers"),
    "a macro in itself": ("{% macro m() %}{{ m() }}{% endmacro %}{{ m() }}", "within each other deeper than 20"),
    "a macro that doubles": (
        "{% macro m(n) %}{% if n %}{{ m(n - 1) }}{{ m(n - 1) }}{% endif %}{% endmacro %}{{ m(19) }}",
        _ENDLESS,
    ),
    "a loop in itself": (
        "{% set l = [1] %}{% for x in l recursive %}{{ loop(l) }}{% endfor %}",
        "within each other deeper than 20",
    ),
    "text that doubles": (_NS + "{% set ns.x = ns.x ~ ns.x %}{% endfor %}", _HUGE),
    "text that doubles by +": (_NS + "{% set ns.x = ns.x + ns.x %}{% endfor %}", _HUGE),
    "a block that doubles": (_NS + "{% set y %}{{ ns.x }}{{ ns.x }}{% endset %}{% set ns.x = y %}{% endfor %}", _HUGE),
    "a list that doubles": (_NS + "{% set ns.l = ns.l + ns.l %}{% endfor %}", _ENDLESS),
    "a list in itself twice": (_NS + "{% set ns.l = [ns.l, ns.l] %}{% endfor %}{{ ns.l }}", _HEAVY),
    "a mapping in itself twice": (_NS + "{% set ns.d = dict(a=ns.d, b=ns.d) %}{% endfor %}{{ ns.d }}", _HEAVY),
    "rows of a list in itself": (_NS + "{% set ns.l = [ns.l, ns.l]|batch(2)|list %}{% endfor %}{{ ns.l }}", _HEAVY),
    "comparing long texts": (
        "{% set b = 'a' * 100000 %}{% set c = b ~ '' %}{% for i in range(9999) %}{{ 1 if b == c }}{% endfor %}",
        _ENDLESS,
    ),
    "searching long texts": (
        "{% set b = 'a' * 100000 %}{% set c = 'a' * 50 ~ 'b' %}{% for i in range(9999) %}{{ 1 if c in b }}{% endfor %}",
        _ENDLESS,
    ),
    "comparing large lists": (
        "{% set b = range(5000) %}{% set c = range(5000) %}{% for i in range(9999) %}{{ 1 if b == c }}{% endfor %}",
        _ENDLESS,
    ),
    "a tower of powers": ("{{ 9 ** 9 ** 9 ** 9 }}", "a number out of range"),
    "a number out of range": ("{{ 2 ** 63 }}", "a number out of range"),
    "a float out of range": ("{{ 1e308 * 10 }}", "a number out of range"),
    "a number of many digits": ("{{ " + "9" * 5000 + " }}", "a number in the template has too many digits"),
    "center": ("{{ 'x'|center(10**9) }}", _HUGE),
    "indent": ("{{ ('a\n' * 1000)|indent(10**6) }}", _HUGE),
    "indent by a text": ("{{ ('a\n' * 1000)|indent('x' * 10000) }}", _HUGE),
    "batch": ("{{ [1]|batch(10**9, 0) }}", "1000000000 where a whole number from 1 to 10000 is taken"),
    "slice": ("{{ [1]|slice(10**9) }}", "1000000000 where a whole number from 1 to 10000 is taken"),
    "replace": ("{{ ('a' * 100000)|replace('a', 'b' * 1000) }}", _HUGE),
    "replace nothing": ("{{ ('a' * 100000)|replace('', 'b' * 1000) }}", _HUGE),
    "join": ("{{ range(9999)|join('x' * 10000) }}", _HUGE),
    "format": ("{{ '%999999999d'|format(1) }}", "with at most two digits of width"),
    "format by an argument": ("{{ '%*d'|format(10**9, 1) }}", "with at most two digits of width"),
    "wordwrap": ("{{ ('a' * 500000)|wordwrap(1) }}", "wordwrap takes at most 65536 characters"),
    "urlencode": ("{{ ('<' * 300000)|urlencode }}", _HUGE),
    "escape": ("{{ ('<' * 300000)|e }}", _HUGE),
    "split": ("{{ ('a ' * 100000).split()|length }}", "split makes more than 10000 pieces"),
    "list": ("{{ ('a' * 100000)|list }}", _ENDLESS),
    "output": ("{% for i in range(9000) %}{{ 'x' * 1000 }}{% endfor %}", _HUGE),
    "plain output": ("{% for i in range(9000) %}" + "x" * 1000 + "{% endfor %}", _HUGE),
    "parentheses": ("{{ " + "(" * 3000 + "1" + ")" * 3000 + " }}", "nested too deeply"),
    "a long sum": ("{{ 1" + "+1" * 1500 + " }}", "nested too deeply"),
    "a long path": ("{{ a" + ".a" * 1500 + " }}", "nested too deeply"),
    "many filters": ("{{ a" + "|upper" * 1500 + " }}", "nested too deeply"),
    "many blocks": ("{% if 1 %}" * 700 + "{% endif %}" * 700, "nested too deeply"),
    "many words": ("{{ x }}" * 4000, "more than 4000 words and signs in one template"),
    "many openings": ("{{" * 16_000, "nested too deeply"),
    "many comments": ("{#" * 16_000, "Missing end of comment tag"),
    "a long template": ("x" * 32_769, "takes a template of at most 32768 bytes, not 32769"),
}


@pytest.mark.parametrize("name", EXHAUSTING)
def test_a_template_made_to_exhaust_is_stopped_at_once(name: str) -> None:
    text, reason = EXHAUSTING[name]
    assert reason in _reason(text)


def test_the_data_is_bounded() -> None:
    assert _reason("x", {"a": "x" * 600_000}).startswith(
        "template.render takes data of at most 524288 bytes of JSON, not"
    )


def test_a_table_of_a_thousand_rows_is_within_the_budget() -> None:
    rows = [{"name": f"n{number}", "value": number / 7} for number in range(1000)]
    text = (
        "{% for r in rows|sort(attribute='value', reverse=true) %}{{ r.name }}: {{ r.value|round(2) }}\n{% endfor %}"
        "{{ rows|map(attribute='name')|join(', ') }}{{ rows|selectattr('value', 'gt', 100)|list|length }}"
    )
    rendered = module.render(None, text.encode(), json.dumps({"rows": rows}).encode(), False)  # type: ignore[arg-type]
    assert rendered.startswith(b"n999: 142.71\n")


def test_mappings_come_in_alphabetical_order() -> None:
    """Lua's tables have none of their own."""
    names = [f"key{number}" for number in range(50)]
    text = "{% for k in m %}{{ k }},{% endfor %}{{ m.keys()|join(',') }}"
    rendered = _rendered(text, {"m": dict.fromkeys(names, 1)})
    assert rendered == "".join(f"{name}," for name in sorted(names)) + ",".join(sorted(names))


def test_one_rendering_leaves_nothing_for_the_next() -> None:
    text = "{{ x }}{% set x = 5 %}{{ x }}{% set ns = namespace(y=1) %}{{ ns.y }}"
    body = f"local text = '{text}' return true, template.render(text, {{}}) .. template.render(text, {{ x = 'a' }})"
    assert output(execute(body)) == "51a51"


def test_templates_that_were_compiled_are_not_all_kept() -> None:
    templates = module._templates()
    for number in range(100):
        module.render(None, f"{number} {'x' * 5000}".encode(), b"{}", False)  # type: ignore[arg-type]
    assert sum(map(len, templates._kept)) <= 128 * 1024
