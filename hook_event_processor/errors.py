"""Every error that the product raises for its users: one tree, one sentence a class."""

from __future__ import annotations


class HookEventProcessorError(Exception):
    """Something that the user can be told in one line; the message says what, where, and what would be right."""


class SettingsError(HookEventProcessorError):
    """One or more settings are wrong; the message lists all of them."""


class StoreUnavailable(HookEventProcessorError):
    """The database cannot be reached, or the connection to it was lost; trying again may help."""


class SchemaError(HookEventProcessorError):
    """The database's schema is not the one that this program works with."""


class EmbeddedServerError(HookEventProcessorError):
    """The embedded PostgreSQL server cannot be set up, started or stopped."""


class EventRefused(HookEventProcessorError):
    """An event cannot be published as it is."""


class TypeRefused(HookEventProcessorError):
    """An event type cannot be added to the catalog as it is; where its JSON Schema is at fault, the message says it."""


class PatternRefused(HookEventProcessorError):
    """An event pattern cannot match anything, or is not a pattern."""


class HookRefused(HookEventProcessorError):
    """A hook's text cannot be used; the message names the file and the line where they are known."""


class StateRefused(HookEventProcessorError):
    """A key, a value or a lock cannot be kept as it is."""


class SecretRefused(HookEventProcessorError):
    """A secret cannot be stored or read; the message never holds its value."""


class ScheduleRefused(HookEventProcessorError):
    """A schedule has no times, or its event could not be published."""


class ArchiveRefused(HookEventProcessorError):
    """A file of archived events is not whole, or cannot be put back; the message names it and the line."""


class NotFound(HookEventProcessorError):
    """Nothing has that name or id."""


class Ambiguous(HookEventProcessorError):
    """A shortened id stands for more than one thing."""


class OutputFailed(HookEventProcessorError):
    """Standard output cannot be written; the message says what was done all the same."""


class UsageError(HookEventProcessorError):
    """A command was called with arguments that it does not take (exit status 2)."""
