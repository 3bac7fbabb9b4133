"""Log events, and how they become lines: JSON objects for machines, text for a terminal.

An event is a short name and fields, `log.warning("results not read", batch=…, seconds=…)`. The name is in lower case
and says what happened or how things are; ids and counts are in the fields alone. Events go through the standard
library's loggers, so records of Celery and other libraries are filtered and rendered in the same way. What these attach
to their records (Celery: a task's arguments) is left out, as it could be a prompt; for the same reason tracebacks show
no variables.
"""

from __future__ import annotations

import logging
import sys
from datetime import UTC, datetime

import structlog
from structlog.stdlib import BoundLogger, ProcessorFormatter
from structlog.types import EventDict, Processor

TALKATIVE = ("celery.worker.strategy", "celery.worker.request", "celery.app.trace", "httpx2", "alembic")
"""They log each task twice, each call of the API, or each step of a migration; their warnings are still logged."""

PROCESSORS: tuple[Processor, ...] = (
    structlog.stdlib.filter_by_level,
    structlog.processors.format_exc_info,
    ProcessorFormatter.wrap_for_formatter,
)
"""How an event reaches its logger: dropped below the level, a traceback made text, fields left to the formatter."""


def get_logger(name: str) -> BoundLogger:
    """Return the logger of a module; `name` is its `__name__`.

    It brings its processors along: structlog's global configuration, which may be another application's, is neither
    read nor changed.
    """
    return BoundLogger(logging.getLogger(name), PROCESSORS, {})


def begin(log_format: str, level: int = logging.INFO) -> None:
    """Send the records of this process, from `level` on and warnings too, to its stderr."""
    handler = logging.StreamHandler()
    handler.setFormatter(formatter(is_json(log_format), colors=sys.stderr.isatty()))
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(level)
    logging.captureWarnings(True)
    for name in TALKATIVE:
        logging.getLogger(name).setLevel(max(level, logging.WARNING))


def is_json(log_format: str) -> bool:
    """Return whether lines are JSON under this setting: "json", "text", or "auto" for text on a terminal alone."""
    return not sys.stderr.isatty() if log_format == "auto" else log_format == "json"


def formatter(as_json: bool, colors: bool = False) -> logging.Formatter:
    """Return what renders a record as a line; `time` is RFC 3339, in UTC, to the millisecond."""
    rendering = _as_json() if as_json else [_as_text(colors)]
    return ProcessorFormatter(processors=[_described, ProcessorFormatter.remove_processors_meta, *rendering])


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
    return {**about, **event}
