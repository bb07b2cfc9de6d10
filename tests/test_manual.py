"""ops/manual.py and ops/pages.py: pages of docs/, and the command line, as man pages."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from pages import ROOT, blocks

PAGE = ROOT / "docs/writing-hooks.md"


def _manual(page: Path) -> str:
    command = [sys.executable, str(ROOT / "ops/manual.py"), str(page), "hep-x", "7", "a test"]
    return subprocess.run(command, capture_output=True, text=True, check=True, timeout=30).stdout


@pytest.mark.parametrize(
    ("markdown", "roff"),
    [
        (
            "# Page\n\nText with `code-1`\nand *more*.",
            ".SH DESCRIPTION\n.PP\nText with \\fBcode\\-1\\fR and \\fImore\\fR.",
        ),
        ("## A page's part", ".SH A PAGE\\(aqS PART"),
        ("### exec\nText", ".SS exec\n.PP\nText"),
        ("a [link](x.md#y) here", ".PP\na link here"),
        ("| a | b |\n|---|---|\n| `x\\|y` | z |", ".TP\n\\fBx|y\\fR\nz"),
        ("| a | b | c |\n|---|---|---|\n| x | y | z |", ".TP\nx\nb: y; c: z"),
        ("- one\n  more\n- two", ".IP \\(bu 2\none more\n.IP \\(bu 2\ntwo"),
        ("```lua\n.x\n'y'\nz = \"\\n\"\n\n```", '.PP\n.RS 4\n.EX\n\\&.x\n\\(aqy\\(aq\nz = "\\en"\n\n.EE\n.RE'),
    ],
)
def test_each_form_has_its_roff(tmp_path: Path, markdown: str, roff: str) -> None:
    (tmp_path / "page.md").write_text(markdown)
    head = '.TH HEP-X 7 "" "" "Hook Event Processor"\n.SH NAME\nhep-x \\- a test\n'
    assert _manual(tmp_path / "page.md") == f"{head}{roff}\n.SH SEE ALSO\n.BR hep (1)\n"


def test_nothing_of_the_page_on_hooks_is_lost() -> None:
    manual = _manual(PAGE)
    text = (
        manual.replace("\\-", "-").replace("\\(aq", "'").replace("\\e", "\\").replace("\\(ga", "`").replace("\\&", "")
    )
    text = text.replace("\\(ti", "~").replace("\\(ha", "^")
    assert all(block.text in text for block in blocks(PAGE))
    assert re.findall(r"^(\.(?!TH|SH|SS|PP|TP|IP|RS|RE|EX|EE|BR).*)", manual, re.MULTILINE) == []
    assert manual.count("\n.SH ") == PAGE.read_text().count("\n## ") + 3  # NAME, DESCRIPTION, SEE ALSO


@pytest.mark.skipif(not shutil.which("groff"), reason="groff is not installed")
def test_groff_finds_nothing_wrong(tmp_path: Path) -> None:
    (tmp_path / "page.7").write_text(_manual(PAGE))
    command = ["groff", "-ww", "-man", "-Kutf8", "-Tutf8", "-z", str(tmp_path / "page.7")]
    assert subprocess.run(command, capture_output=True, text=True, check=True, timeout=30).stderr == ""


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory with all pages."""
    directory = tmp_path_factory.mktemp("man")
    subprocess.run([sys.executable, str(ROOT / "ops/pages.py"), str(directory)], check=True, timeout=60)
    return directory


def test_a_usage_and_an_example_stand_in_a_page_as_they_are(written: Path) -> None:
    for page in sorted(written.glob("hep*.1")):
        text = page.read_text()
        standing = re.findall(r"^\.nf\n(.*?)^\.fi$", text, re.MULTILINE | re.DOTALL)
        usages = [block for block in standing if block.startswith("usage: ")]
        assert len(usages) == text.count("\nusage: "), page
        lines = [line for usage in usages for line in usage.replace("\\", "").splitlines()]
        # One option alone may be longer: argparse breaks none.
        assert [line for line in lines if len(line) > 73 and line.count("[") > 1] == [], page
        assert sum(block.startswith("example: ") for block in standing) == text.count("\nexample: ")
    events = (written / "hep-events.1").read_text()
    assert '.nf\nexample: hep events emit task.failed \\(aq{"name": "deploy"}\\(aq \\-\\-stack production\n' in events


@pytest.mark.skipif(not shutil.which("groff"), reason="groff is not installed")
def test_groff_finds_nothing_wrong_with_any_page(written: Path) -> None:
    pages = [page for page in sorted(written.iterdir()) if not page.read_text().startswith(".so ")]
    for page in pages:
        command = ["groff", "-ww", "-man", "-Kutf8", "-Tutf8", "-rLL=80n", str(page)]
        finished = subprocess.run(command, capture_output=True, text=True, check=True, timeout=30)
        assert finished.stderr == "", page
    assert len(pages) > 10
