"""Statements sent together, in one journey to the server.

psycopg has pipelines, too. For statements as short as those of a claim its
cursors cost several times what libpq does, so here libpq is called directly:
on psycopg's connection, with psycopg's adapters for what goes in and comes out.
"""

from __future__ import annotations

import re
import select
from collections.abc import Callable, Mapping, Sequence
from functools import cache
from typing import Any, NamedTuple, Protocol, Self

from psycopg import Connection, Error, OperationalError
from psycopg.adapt import PyFormat, Transformer
from psycopg.errors import error_from_result
from psycopg.pq import DiagnosticField, ExecStatus, Format, TransactionStatus
from psycopg.pq.abc import PGresult

from hook_event_processor.store.database import PLAN_ONCE

Parameters = Sequence[Any] | Mapping[str, Any]
_Key = tuple[bytes, tuple[int, ...] | None]

_PLACEHOLDER = re.compile(r"%(?:%|(?:\((\w+)\))?[sb])")


class Executes(Protocol):
    """What takes statements as psycopg has them, with %s or %(name)s: a connection, or a pipeline."""

    def execute(self, query: str, params: Any = ..., /) -> object: ...


class Answer:
    """The rows of one statement, in binary; they are there once the pipeline has been left."""

    __slots__ = ("rows",)

    def __init__(self) -> None:
        self.rows: list[tuple[Any, ...]] = []


class _Sent(NamedTuple):
    """What the server is to answer: with rows, or that a statement is prepared by this name from now on."""

    answer: Answer | None
    key: _Key
    name: bytes


class Pipeline:
    """The statements of one session, which is not in autocommit: each is sent at once, and waited for at the end.

    Leaving it, as a context, waits for all answers, and raises the error of
    the statement that failed; those after it did not run. Statements are
    prepared as they are first sent, while one that is kept `may_prepare`: not
    where a transaction pooler lends out the session, which would also lend out
    what PLAN_ONCE sets. psycopg must prepare none
    of its own there (as Database.connect has it): with its next rollback it
    would have the server forget all of them.
    """

    def __init__(self, connection: Connection, *, may_prepare: Callable[[], bool] | None = None) -> None:
        self.connection = connection
        self._libpq = connection.pgconn
        self._adapters = Transformer(connection)
        self._may_prepare = may_prepare
        self._plans_once = False
        self._prepared: dict[_Key, bytes] = {}
        self._named = 0
        self._sent: list[_Sent] = []

    def __enter__(self) -> Self:
        in_transaction = self._libpq.transaction_status != TransactionStatus.IDLE
        if not in_transaction and not self._plans_once and self._prepares:
            self._plan_once()
        self._libpq.enter_pipeline_mode()
        if not in_transaction:
            self.execute("BEGIN")
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        sent, self._sent = self._sent, []
        fault: Error | None = None
        try:
            self._libpq.pipeline_sync()
            for one in sent:
                fault = self._take(one) or fault
            self._next_result()  # of the synchronization
            self._libpq.exit_pipeline_mode()
        except OperationalError as lost:
            result = self._libpq.get_result()  # the server's last words, if there were any
            fault = fault or (lost if result is None else _fault(result))
        if fault is not None and kind is None:
            raise fault

    def execute(self, statement: str, parameters: Parameters = ()) -> Answer:
        """Send a statement; its rows will be in the answer."""
        text, names = _parse(statement)
        values = [parameters[name] for name in names] if isinstance(parameters, Mapping) else parameters
        adapters, libpq, answer = self._adapters, self._libpq, Answer()
        dumped = adapters.dump_sequence(values, [PyFormat.AUTO] * len(values))
        key = (text, adapters.types)
        name = self._prepared.get(key, b"")
        if not self._prepares:
            libpq.send_query_params(text, dumped, adapters.types, adapters.formats, Format.BINARY)
        else:
            if not name:
                self._named += 1
                name = b"hep_%d" % self._named
                libpq.send_prepare(name, text, adapters.types)
                self._sent.append(_Sent(None, key, name))
            libpq.send_query_prepared(name, dumped, adapters.formats, Format.BINARY)
        self._sent.append(_Sent(answer, key, name))
        libpq.flush()  # the server begins with it while the next is put together
        return answer

    def run(self, statement: str, parameters: Parameters = ()) -> list[tuple[Any, ...]]:
        """Send one statement, and wait for its rows."""
        with self:
            answer = self.execute(statement, parameters)
        return answer.rows

    @property
    def _prepares(self) -> bool:
        return self._may_prepare is not None and self._may_prepare()

    def _plan_once(self) -> None:
        """Outside of a transaction, which could take it back."""
        text = PLAN_ONCE.encode()
        self._libpq.enter_pipeline_mode()
        self._libpq.send_query_params(text, None)
        self._sent.append(_Sent(Answer(), (text, None), b""))
        self.__exit__(None)
        self._plans_once = True

    def _take(self, sent: _Sent) -> Error | None:
        result = self._next_result()
        fault: Error | None = None
        if result is None:
            return OperationalError("the connection was lost")
        if result.status == ExecStatus.FATAL_ERROR:
            fault = _fault(result)
        elif result.status == ExecStatus.TUPLES_OK and sent.answer is not None:
            self._adapters.set_pgresult(result)
            sent.answer.rows = self._adapters.load_rows(0, result.ntuples, tuple)
        elif result.status == ExecStatus.COMMAND_OK and sent.answer is None:
            self._prepared[sent.key] = sent.name
        self._next_result()  # the end of this one
        return fault

    def _next_result(self) -> PGresult | None:
        libpq = self._libpq
        while libpq.is_busy():
            poll = select.poll()
            # What the sockets do not hold is sent as the server reads; it may wait for us to read, too.
            poll.register(libpq.socket, select.POLLIN | (select.POLLOUT if libpq.flush() else 0))
            poll.poll()
            libpq.consume_input()
        return libpq.get_result()


def _fault(result: PGresult) -> Error:
    # What libpq itself says, of a connection that is lost, has no SQLSTATE.
    if result.error_field(DiagnosticField.SQLSTATE):
        return error_from_result(result)
    return OperationalError(result.get_error_message())


@cache
def _parse(statement: str) -> tuple[bytes, tuple[str, ...]]:
    """As libpq takes it, with $1; and the names of its parameters in their order, if they have any."""
    names: list[str] = []
    count = 0

    def number(found: re.Match[str]) -> str:
        nonlocal count
        if found[0] == "%%":
            return "%"
        if found[1] is None:
            count += 1
            return f"${count}"
        if found[1] not in names:
            names.append(found[1])
        return f"${names.index(found[1]) + 1}"

    text = _PLACEHOLDER.sub(number, statement)
    return text.encode(), tuple(names)
