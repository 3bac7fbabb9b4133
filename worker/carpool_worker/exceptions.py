"""The worker's exceptions: one tree, a sentence each, data as attributes."""

from __future__ import annotations

from carpool_worker.outside_text import cleaned

LONGEST_MESSAGE = 500
LONGEST_NAME = 100
"""Characters kept of an API's message, and of the type or code of its error."""

RESULTS_GONE = "results_gone"
"""A ClaudeError's kind when a batch's results were deleted or archived: they can never be read."""


class WorkerError(Exception):
    """Something went wrong in the worker."""

    def __init__(self, message: str | None = None) -> None:
        super().__init__(message or self.__doc__)


class SettingsInvalid(WorkerError):
    """A setting is unknown, or its value is not allowed."""


class DatabaseMissing(WorkerError):
    """The SQLite file does not exist."""

    def __init__(self, path: str) -> None:
        super().__init__(
            f"{path} does not exist, so no Carpool has run here: start one with `carpool up`, or make the tables with "
            "`carpool migrate`; or set CARPOOL_DATABASE_URL to where its database is"
        )


class DatabaseNotMigrated(WorkerError):
    """The database's tables are not those of this version: run `carpool migrate`."""


class DatabaseUnreleased(DatabaseNotMigrated):
    """The database was made by a version before 0.1.0, whose tables can't be upgraded: start with an empty database."""


class DatabaseNewer(DatabaseNotMigrated):
    """The database's tables are those of a later version, on which this one does not work: install a newer one."""


class MigrationBlocked(WorkerError):
    """Another session keeps a table locked that a migration needs: end it, and run `carpool migrate` again."""


class ClaudeError(WorkerError):
    """The Message Batches API did not do what it was asked.

    `status` is HTTP's (None: no answer came), `retry_after` seconds that the API asked to wait (None: it did not say),
    `kind` the API's error type, `error_code` the code that the details of some errors have. `certain` is True where the
    request is known to have had no effect. All text is cleaned here, as an API, or what answers in its place, chose it.
    """

    def __init__(
        self,
        message: str,
        *,
        status: int | None = None,
        kind: str | None = None,
        error_code: str | None = None,
        retry_after: float | None = None,
        certain: bool = True,
    ) -> None:
        super().__init__(cleaned(message, LONGEST_MESSAGE))
        self.status = status
        self.kind = None if kind is None else cleaned(kind, LONGEST_NAME)
        self.error_code = None if error_code is None else cleaned(error_code, LONGEST_NAME)
        self.retry_after = retry_after
        self.certain = certain


class ParamsGone(WorkerError):
    """The params of a request in this batch were erased while it was read: it is read again at the next tick."""


class PostOvertaken(WorkerError):
    """Another process has taken over the batch that was being posted: the end of its body was not sent."""


class ResultsCut(WorkerError):
    """The stream of results ended before its last line, or was not this batch's results: it is read again.

    `retry_after` is how many seconds later at the earliest (None: it does not matter).
    """

    def __init__(self, message: str | None = None, *, retry_after: float | None = None) -> None:
        super().__init__(message or "The stream of results ended before its last line.")
        self.retry_after = retry_after


class ClientBatchError(WorkerError):
    """Something can't be done with a client's batch."""


class NoClientBatch(ClientBatchError):
    """The client has no batch of this id."""


class BatchInProgress(ClientBatchError):
    """The batch has not ended."""


class BatchEnded(ClientBatchError):
    """The batch has ended."""


class NoResults(ClientBatchError):
    """The batch has not ended, or its results are no longer kept."""


class KeyReused(ClientBatchError):
    """The client has used this idempotency key for another batch."""
