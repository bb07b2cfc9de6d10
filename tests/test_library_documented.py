"""Every function of every module, as hooks find it, is documented with an example, tested, and declared for editors."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from chunks import execute, output
from pages import ROOT, blocks

from hook_event_processor import child, hook_limits
from hook_event_processor.event import MAX_DEPTH
from hook_event_processor.lua import door, params, runtime
from hook_event_processor.lua.host import disk
from hook_event_processor.lua.loader import MODULES
from hook_event_processor.lua.modules import crypto, notify, regex, template, yaml
from hook_event_processor.settings import Settings
from hook_event_processor.store import state
from hook_event_processor.workshop.library_names import members

PAGE = ROOT / "docs/writing-hooks.md"
TESTS = Path(__file__).parent
_LIST = """
local names = {{}}
for name in pairs(require("{module}")) do names[#names + 1] = name end
table.sort(names)
return true, table.concat(names, " ")
"""


@pytest.fixture(scope="module")
def functions() -> list[tuple[str, str]]:
    """Module and name of everything that a hook can require."""
    found = [(module, output(execute(_LIST.format(module=module)))) for module in sorted(MODULES)]
    return [(module, name) for module, names in found for name in names.split()]


def _missing(functions: list[tuple[str, str]], there: dict[str, set[str]]) -> list[str]:
    return [f"{module}.{name}" for module, name in functions if name not in there.get(module, set())]


def _sections() -> Iterator[tuple[str, str]]:
    """Module and text of each section of the reference; slog is log by another name."""
    for heading, text in re.findall(r"^### (\w+)\n(.*?)(?=^##)", PAGE.read_text(), re.MULTILINE | re.DOTALL):
        yield heading, text
        if heading == "log":
            yield "slog", text


def test_the_page_describes_each_function(functions: list[tuple[str, str]]) -> None:
    described = {module: set(re.findall(r"\w+", _tables(text))) for module, text in _sections()}
    assert _missing(functions, described) == []


def _tables(section: str) -> str:
    """What stands between backticks in the first column of the section's tables."""
    rows = re.findall(r"^\| (.*?) \| ", section, re.MULTILINE)
    return " ".join(re.findall(r"`(?:\w+\.)?(\w+)", " ".join(rows)))


def test_the_page_has_an_example_of_each_function(functions: list[tuple[str, str]]) -> None:
    code = "\n".join(block.text for block in blocks(PAGE) if block.language == "lua")
    shown = {module: set(re.findall(rf"\b{module}\.(\w+)", code)) for module in MODULES}
    shown["state"] |= set(re.findall(r'\bstate\.shared\("\w+"\)\.(\w+)', code))
    assert _missing(functions, shown) == []


def test_the_page_describes_no_function_that_is_not_there(functions: list[tuple[str, str]]) -> None:
    code = " ".join(re.findall(r"`([^`]+)`", PAGE.read_text()))
    named = {(module, name) for module, name in re.findall(r"\b(\w+)\.(\w+)\(", code) if module in MODULES}
    assert named - set(functions) == set()


def test_the_modules_own_tests_call_each_function(functions: list[tuple[str, str]]) -> None:
    called = {module: set(_called(module)) for module in MODULES}
    assert _missing(functions, called) == []


def _called(module: str) -> Iterator[str]:
    """Names that the tests outside the documentation's call; where `{module}` stands for it, the names behind that."""
    for path in [*TESTS.glob("test_*.py"), *TESTS.glob("attacks/*.py")]:
        if path.name.startswith("test_docs_") or path.name == Path(__file__).name:
            continue
        text = path.read_text()
        yield from re.findall(rf"\b{module}\.(\w+)", text)
        if f'"{module}"' in text:
            yield from re.findall(r"\{module\}\.(\w+)", text)
        if re.search(rf"\b{module}\.\{{", text):
            yield from re.findall(r"\"(\w+)\"", text)


def test_the_stubs_declare_each_function_and_no_other(functions: list[tuple[str, str]]) -> None:
    assert _missing(functions, {module: set(names) for module, names in members().items()}) == []
    declared = {(module, name) for module in MODULES for name in members()[module]}
    assert declared - set(functions) == set()


KB, MB = 1024, 1024 * 1024
# What the page says in the section of a module, or of a heading, and what holds.
LIMITS: list[tuple[str, str, object, object]] = [
    ("crypto", "At most 4 MB at once", crypto._MAX_BYTES, 4 * MB),
    ("crypto", "n bytes, 1 to 65,536", crypto._MAX_RANDOM_BYTES, 65_536),
    ("exec", "1 MB is kept of each", child.MAX_OUTPUT, MB),
    ("file", "(1 MB, at most 8 MB)", disk.MAX_BYTES, 8 * MB),
    ("file", "names, at most 10,000", disk.MAX_NAMES, 10_000),
    ("notify", "100 recipients", notify._MAX_RECIPIENTS, 100),
    ("notify", "1 MB of text at most", notify._MAX_TEXT, MB),
    ("regex", "Texts of 1 MB", regex._MAX_TEXT_BYTES, MB),
    ("regex", "patterns of 4 KB at most", regex._MAX_PATTERN_BYTES, 4 * KB),
    ("state", "10,000 keys of 255 bytes", (state.MAX_KEYS, state.MAX_KEY_BYTES), (10_000, 255)),
    ("state", "values of 64 KB as JSON", state.MAX_VALUE_BYTES, 64 * KB),
    ("template", "Templates of 32 KB", template._MAX_TEMPLATE_BYTES, 32 * KB),
    ("template", "data of 512 KB at most", template._MAX_DATA_BYTES, 512 * KB),
    ("yaml", "Texts of 128 KB", yaml._MAX_TEXT_BYTES, 128 * KB),
    ("yaml", "10,000 values (aliases written out)", yaml._MAX_NODES, 10_000),
    ("yaml", "100 deep at most", yaml._MAX_DEPTH, 100),
    ("", "A text has 256 KB at most", hook_limits.TEXT_BYTES, 256 * KB),
    ("", "16 KB in all as JSON", params.MAX_PARAMS_BYTES, 16 * KB),
    ("", "| 1,000 in a run, 16 deep", (runtime.MAX_DISPATCHED, MAX_DEPTH), (1_000, 16)),
    ("", "returns | 8 MB |", door.MAX_RESULT_BYTES, 8 * MB),
    ("", "`HOOK_TIMEOUT` (30 s)", Settings.hook_timeout, 30.0),
    ("", "`HOOK_MEMORY_MB` (32)", Settings.hook_memory, 32 * MB),
    ("", "`HOOK_MEMORY_TOTAL_MB` (256)", Settings.hook_memory_total, 256 * MB),
    ("", "`HOOK_MAX_PAYLOAD_SIZE` (100,000 bytes)", Settings.max_payload_size, 100_000),
]


@pytest.mark.parametrize(("section", "said", "value", "expected"), LIMITS, ids=[each[1] for each in LIMITS])
def test_the_limits_that_the_page_states_hold(section: str, said: str, value: object, expected: object) -> None:
    text = dict(_sections())[section] if section else PAGE.read_text()
    assert said in " ".join(text.split())
    assert value == expected
