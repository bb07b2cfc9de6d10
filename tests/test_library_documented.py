"""Every function of every module, as hooks find it, is documented with an example, tested, and declared for editors."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from chunks import execute, output
from pages import ROOT, blocks

from hook_event_processor.lua.loader import MODULES
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
    """Names that the tests outside the documentation's call; for a placeholder, the names that stand in its file."""
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
