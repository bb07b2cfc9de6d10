"""What commands say of suspects: events that were running as a processor died."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from hook_event_processor.store.suspects import Counts, Suspect


def suspicion_line(suspect: Suspect | None) -> str:
    """What is suspected of an event, in a sentence; empty when nothing is."""
    from hook_event_processor.cli.output import local_time

    if suspect is None:
        return ""
    if suspect.died_at is None:
        return (
            f"{suspect.hook_name} was running for it as the processor {suspect.node} died:"
            " it runs in a process of its own until one run has ended"
        )
    return (
        f"it kills what runs it: {suspect.hook_name} has ended {suspect.deaths} process{'es' * (suspect.deaths != 1)}"
        f" of its own, the last at {local_time(suspect.died_at)}"
    )


def suspects_line(counts: Counts) -> str:
    """How many there are, and which hooks run apart; empty when there is nothing to say."""
    from hook_event_processor.amount import counted

    said = []
    if counts.waiting:
        said.append(f"{counted(counts.waiting, 'event')} to run in a process of its own, as it may have killed one")
    if counts.deadly:
        said.append(f"{counted(counts.deadly, 'event')} known to kill what runs it")
    if counts.hooks:
        said.append(f"every run of {', '.join(counts.hooks)} has a process of its own")
    return f"Suspects: {'; '.join(said)}." if said else ""
