"""Files in TOML."""

from __future__ import annotations

import tomllib
from collections.abc import Callable
from pathlib import Path
from typing import Any

from hook_event_processor.errors import HookEventProcessorError


def read_toml(path: Path, refusal: Callable[[str], HookEventProcessorError]) -> dict[str, Any]:
    """What the file holds. Raises what `refusal` makes of the reason when it cannot be read, or is no TOML."""
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as fault:
        raise refusal(f"{path} cannot be read: {fault.strerror}") from None
    except UnicodeDecodeError:
        raise refusal(f"{path} cannot be read: it is not UTF-8") from None
    except tomllib.TOMLDecodeError as fault:
        raise refusal(f"{path}: {fault}") from None
    except RecursionError:
        raise refusal(f"{path} cannot be read: it is nested too deeply") from None
