"""What the shells complete, by themselves asking the scripts of `hep completion`."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest

from hook_event_processor.cli import main
from hook_event_processor.cli.completion import script
from hook_event_processor.watchers.kinds import NAMES

_BASH = (
    'source "$1"; read -ra COMP_WORDS <<< "$2"; COMP_WORDS+=("$3"); COMP_CWORD=$((${#COMP_WORDS[@]} - 1))\n'
    "_shtab_hep 2> /dev/null; printf '%s\\n' \"${COMPREPLY[@]}\"\n"
)
_FISH = 'source $argv[1]; complete -C "$argv[2] $argv[3]" | string split --fields 1 \\t'


def _completed(shell: str, folder: Path, before: str, word: str = "") -> set[str]:
    if "CI" not in os.environ and shutil.which(shell) is None:
        pytest.skip(f"{shell} is not installed")
    file = folder / f"hep.{shell}"
    file.write_text(script(shell))
    command = ["bash", "-c", _BASH, "bash"] if shell == "bash" else ["fish", "--no-config", "-c", _FISH]
    finished = subprocess.run([*command, file, before, word], capture_output=True, text=True, timeout=60, check=True)
    return set(finished.stdout.split())


@pytest.mark.parametrize("shell", ["bash", "fish"])
@pytest.mark.parametrize(
    ("before", "some"),
    [
        ("hep watcher create --type", set(NAMES)),
        ("hep watcher create -t", set(NAMES)),
        ("hep agent watcher test --type", set(NAMES)),
        ("hep watcher list web-1 --type", set(NAMES)),
        ("hep watcher run --type", set(NAMES)),
        ("hep watcher create --type file --when", {"changed", "above", "logout"}),
        ("hep install --watchers", {"all", "none", *NAMES}),
        ("hep hook new greet --template", {"hello", "slack"}),
        ("hep doctor", {"files", "units", "watchers"}),
        ("hep doctor files", {"units", "watchers"}),
    ],
)
def test_values_that_can_be_listed_are_completed(shell: str, tmp_path: Path, before: str, some: set[str]) -> None:
    assert some <= _completed(shell, tmp_path, before)


def test_only_what_begins_like_the_word_is_completed(tmp_path: Path) -> None:
    assert _completed("bash", tmp_path, "hep watcher create --type", "co") == {"connection", "command"}


def test_zsh_is_told_the_same() -> None:
    types = f":TYPE:({' '.join(NAMES)})"
    assert f'{{-t,--type}}"[what is watched\\: file, cpu, port, ...]{types}"' in script("zsh")
    assert ":CONDITION:(changed modified " in script("zsh")


def test_what_is_not_completed_is_refused_as_before(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["watcher", "create", "--type", "fiel"]) == 2
    assert "there is no watcher type 'fiel'; did you mean file? types are file, " in capsys.readouterr().err
