"""log, and slog by another name: lines of the execution's output."""

from __future__ import annotations

import pytest
from chunks import execute, output


@pytest.mark.parametrize("module", ["log", "slog"])
def test_each_level_writes_a_line_with_its_fields(module: str) -> None:
    lines = output(
        execute(
            f'local {module} = require("{module}")\n'
            f'{module}.debug("asked", {{url = "/a", tries = 2}})\n'
            f'{module}.info("done", "at last")\n'
            f"{module}.warn(12)\n"
            f"{module}.error(nil)"
        )
    )
    assert lines == "DEBUG asked tries=2 url=/a\nINFO done at last\nWARN 12\nERROR nil"


def test_slog_is_log() -> None:
    assert output(execute('return true, tostring(require("log") == require("slog"))')) == "true"
