"""Files of requests, a JSON object a line in the format of Anthropic's own batches: {"custom_id": …, "params": {…}}.

Each line is read twice: the whole file is checked before any of it is enqueued. Only the ids are kept in between.
"""

from __future__ import annotations

import codecs
import hashlib
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from itertools import count
from typing import IO, Any

import msgspec

from carpool import InvalidRequest, Request
from carpool.contract import mint_id
from carpool.params import check_params
from carpool_worker.claude.results import CUSTOM_ID
from carpool_worker.exceptions import WorkerError

RUN_NAME = re.compile(r"[A-Za-z0-9_.-]{1,64}")
FIELDS = frozenset({"custom_id", "params"})
MAX_LINE_BYTES = 100_000_000
"""Enough for any request of 32 MB, however its text is escaped."""

MOST_NAMED_FAULTS = 20
"""How many bad lines are named; the rest are only counted."""

DIGEST_BYTES = 8

_decode = msgspec.json.Decoder().decode


class LineInvalid(WorkerError):
    """A line breaks a rule."""

    def __init__(self, number: int, field: str, rule: str) -> None:
        super().__init__(f"line {number:,}: {field}: {rule}")


@dataclass(frozen=True, slots=True)
class FileRun:
    """A file's requests under one name: the same line in the same run of the same client is the same request."""

    name: str
    client: str

    def line(self, number: int, text: bytes) -> RequestLine:
        """Return a line, checked; raises LineInvalid."""
        custom_id, params = _parts(number, text)
        try:
            body = check_params(params)
        except InvalidRequest as error:
            name = error.field if error.field.startswith("params") else f"params.{error.field}"
            raise LineInvalid(number, name, error.rule) from None
        # With the params' digest, a line that was changed is a new request, and the others are not paid for again.
        key = f"{self.name}/{custom_id}/{hashlib.blake2b(body, digest_size=DIGEST_BYTES).hexdigest()}"
        return RequestLine(number, custom_id, params, key, mint_id(self.client, key), len(body))

    def request(self, line: RequestLine, metadata: dict[str, Any]) -> Request:
        """Return a line's request; its metadata has the run and the custom_id."""
        return Request(
            line.params,
            metadata={**metadata, "run": self.name, "custom_id": line.custom_id},
            idempotency_key=line.key,
        )


@dataclass(frozen=True, slots=True)
class RequestLine:
    """A valid line, and the id that its request gets."""

    number: int  # from 1
    custom_id: str
    params: dict[str, Any]
    key: str
    id: str
    size: int  # bytes of the params


@dataclass(slots=True)
class CheckedFile:
    """The result of checking a file; only the first of its bad lines are named."""

    count: int = 0
    faults: int = 0
    named: list[str] = field(default_factory=list)

    def add(self, fault: LineInvalid) -> None:
        """Add a bad line."""
        self.faults += 1
        if len(self.named) < MOST_NAMED_FAULTS:
            self.named.append(str(fault))


def check_all(source: IO[bytes], run: FileRun, take: Callable[[RequestLine], None]) -> CheckedFile:
    """Check every line, call `take` with each valid one, and return what was found.

    Raises:
        LineInvalid: a line is so long that the rest can't be read.
    """
    checked, first_at = CheckedFile(), dict[int, int]()
    for number, text in numbered(source):
        try:
            line = run.line(number, text)
            _check_new(line, first_at)
        except LineInvalid as fault:
            checked.add(fault)
            continue
        take(line)
        checked.count += 1
    return checked


def numbered(source: IO[bytes]) -> Iterator[tuple[int, bytes]]:
    """Yield the lines that are not empty, with their numbers from 1; raises LineInvalid."""
    for number in count(1):
        text = source.readline(MAX_LINE_BYTES)
        if not text:
            return
        if len(text) == MAX_LINE_BYTES and not text.endswith(b"\n"):
            raise LineInvalid(number, "line", f"must be shorter than {MAX_LINE_BYTES:,} bytes")
        if number == 1:
            text = text.removeprefix(codecs.BOM_UTF8)
        if not text.isspace() and text:
            yield number, text


def _parts(number: int, text: bytes) -> tuple[str, Any]:
    try:
        value = _decode(text)
    except (ValueError, RecursionError) as error:  # msgspec's errors are ValueErrors
        raise LineInvalid(number, "line", f"must be a JSON object: {error}") from None
    if not isinstance(value, dict):
        raise LineInvalid(number, "line", "must be a JSON object with custom_id and params")
    for unknown in sorted(value.keys() - FIELDS):
        raise LineInvalid(number, repr(unknown)[:80], "is unknown: a line has custom_id and params")
    custom_id = value.get("custom_id")
    if not isinstance(custom_id, str) or not re.fullmatch(CUSTOM_ID, custom_id):
        raise LineInvalid(number, "custom_id", "must be 1 to 64 letters, digits, dashes or underscores")
    return custom_id, value.get("params")


def _check_new(line: RequestLine, first_at: dict[int, int]) -> None:
    # Eight bytes instead of each custom_id: for a million of them that saves some 100 MB.
    digest = int.from_bytes(hashlib.blake2b(line.custom_id.encode(), digest_size=DIGEST_BYTES).digest())
    earlier = first_at.setdefault(digest, line.number)
    if earlier != line.number:
        raise LineInvalid(line.number, "custom_id", f"must be unique: line {earlier:,} has it too")
