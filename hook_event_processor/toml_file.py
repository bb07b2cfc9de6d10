"""Files in TOML that a setting names."""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Any

from hook_event_processor.errors import SettingsError


def read_toml(path: Path, setting: str) -> dict[str, Any]:
    """What the file holds. Raises SettingsError with the setting's name when it cannot be read, or is no TOML."""
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as fault:
        raise SettingsError(f"{setting}: {path} cannot be read: {fault.strerror}") from None
    except UnicodeDecodeError:
        raise SettingsError(f"{setting}: {path} cannot be read: it is not UTF-8") from None
    except tomllib.TOMLDecodeError as fault:
        raise SettingsError(f"{setting}: {path}: {fault}") from None
    except RecursionError:
        raise SettingsError(f"{setting}: {path} is nested too deeply") from None
