"""Any environment is settings, or a refusal that names the variable and keeps its secrets."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hook_event_processor.errors import SettingsError
from hook_event_processor.settings import VARIABLES, load

SECRET = "s3same-open"
_ODD = (
    "",
    " ",
    "0",
    "-1",
    "1e400",
    "nan",
    "inf",
    "٣",
    "1_0",
    "0x10",
    "true",
    "on\n",
    "a,b",
    ",",
    "*",
    "~",
    "/",
    "//",
    "..",
)
_TEXTS = st.sampled_from(_ODD) | st.text(st.characters(codec="utf-8", exclude_characters="\0"), max_size=40)


def _refusal(environment: dict[str, str]) -> str | None:
    try:
        load({"HEP_HOME": "/nowhere", **environment})
    except SettingsError as refusal:
        return str(refusal)
    return None


@settings(max_examples=400, deadline=None)
@given(variable=st.sampled_from(sorted(VARIABLES)), text=_TEXTS)
def test_any_text_is_a_setting_or_is_refused_by_name(variable: str, text: str) -> None:
    refusal = _refusal({"PGPASSWORD": SECRET, "PGHOST": "localhost", variable: text})
    assert refusal is None or variable in refusal
    assert SECRET not in (refusal or "")


@settings(max_examples=200, deadline=None)
@given(text=_TEXTS.map(lambda text: f"{text}{SECRET}") | _TEXTS.map(lambda text: f"postgresql://u:{SECRET}@{text}/d"))
def test_any_database_url_is_read_or_refused_without_its_password(text: str) -> None:
    refusal = _refusal({"DATABASE_URL": text})
    assert refusal is None or "DATABASE_URL" in refusal
    assert SECRET not in (refusal or "")


def test_all_faults_are_reported_together() -> None:
    with pytest.raises(SettingsError) as refused:
        load({"HEP_HOME": "/nowhere", "BATCH_SIZE": "many", "WORKERS": "0", "POLL_INTERVAL": "soon"})
    assert all(name in str(refused.value) for name in ("BATCH_SIZE", "WORKERS", "POLL_INTERVAL"))
