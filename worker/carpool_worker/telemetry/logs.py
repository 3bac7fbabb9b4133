"""How records become lines: JSON objects for machines, text for who watches a terminal. The setting is log_format.

Both know the fields that moves.extra adds, and no others: what libraries attach to their records (Celery: a task's
arguments) could be a prompt. Tracebacks show no variables, for the same reason.
"""

from __future__ import annotations

import logging
import sys
from datetime import UTC, datetime

import structlog
from structlog.types import EventDict, Processor

from carpool_worker.settings import settings

TALKATIVE = ("celery.worker.strategy", "celery.worker.request", "celery.app.trace", "httpx2", "alembic")
"""They log each task twice, each call of the API and each part of theirs; failures are still logged."""


def begin(level: int = logging.INFO) -> None:
    """Send the records of this process, from `level` on and warnings too, to its stderr."""
    handler = logging.StreamHandler()
    handler.setFormatter(formatter(is_json(), colors=sys.stderr.isatty()))
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(level)
    logging.captureWarnings(True)
    for name in TALKATIVE:
        logging.getLogger(name).setLevel(max(level, logging.WARNING))


def is_json() -> bool:
    """Tell whether lines are JSON here."""
    chosen = settings().log_format
    return not sys.stderr.isatty() if chosen == "auto" else chosen == "json"


def formatter(as_json: bool, colors: bool = False) -> logging.Formatter:
    """Return what makes a line of a record; `time` is RFC 3339, in UTC, to the millisecond."""
    rendering = _as_json() if as_json else [_as_text(colors)]
    about = [_described, structlog.stdlib.ProcessorFormatter.remove_processors_meta]
    return structlog.stdlib.ProcessorFormatter(processors=[*about, *rendering])


def _as_json() -> list[Processor]:
    named = structlog.processors.EventRenamer("message")
    return [structlog.processors.format_exc_info, named, structlog.processors.JSONRenderer()]


def _as_text(colors: bool) -> Processor:
    return structlog.dev.ConsoleRenderer(
        colors=colors,
        timestamp_key="time",
        sort_keys=False,
        exception_formatter=structlog.dev.plain_traceback,
    )


def _described(_: object, __: str, event: EventDict) -> EventDict:
    record: logging.LogRecord = event["_record"]
    moment = datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds")
    about = {"time": moment.replace("+00:00", "Z"), "level": record.levelname.lower(), "logger": record.name}
    return {**about, **event, **getattr(record, "fields", {})}
