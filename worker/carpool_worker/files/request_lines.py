"""Files of requests, a JSON object a line in the format of Anthropic's own batches: {"custom_id": …, "params": {…}}.

Each line is read twice: the whole file is checked before anything of it is enqueued. Nothing is held but the ids.
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
from carpool_worker.exceptions import WorkerError

CUSTOM_ID = re.compile(r"[a-zA-Z0-9_-]{1,64}")
"""The Message Batches API's own rule."""

RUN_NAME = re.compile(r"[A-Za-z0-9_.-]{1,64}")
FIELDS = frozenset({"custom_id", "params"})
MAX_LINE_BYTES = 100_000_000
"""More than any request of 32 MB takes, however its text is escaped."""

SHOWN_FAULTS = 20
"""Bad lines that are named; more are counted."""

DIGEST_BYTES = 8

_decode = msgspec.json.Decoder().decode


class LineInvalid(WorkerError):
    """A line breaks a rule."""

    def __init__(self, number: int, field: str, rule: str) -> None:
        super().__init__(f"line {number:,}: {field}: {rule}")


@dataclass(frozen=True, slots=True)
class Run:
    """A file's requests under one name: the same line in the same run of the same client is the same request."""

    name: str
    client: str

    def line(self, number: int, text: bytes) -> Line:
        """Return what a line says; raises LineInvalid."""
        custom_id, params = _parts(number, text)
        try:
            body = check_params(params)
        except InvalidRequest as error:
            name = error.field if error.field.startswith("params") else f"params.{error.field}"
            raise LineInvalid(number, name, error.rule) from None
        # With the params' digest, a line that was changed is a new request, and the others are not paid for again.
        key = f"{self.name}/{custom_id}/{hashlib.blake2b(body, digest_size=DIGEST_BYTES).hexdigest()}"
        return Line(number, custom_id, params, key, mint_id(self.client, key), len(body))

    def request(self, line: Line, metadata: dict[str, Any]) -> Request:
        """Return a line's request; its metadata tells where it comes from."""
        return Request(
            line.params,
            metadata={**metadata, "run": self.name, "custom_id": line.custom_id},
            idempotency_key=line.key,
        )


@dataclass(frozen=True, slots=True)
class Line:
    """One line that is in order, and the id that its request gets."""

    number: int  # from 1
    custom_id: str
    params: dict[str, Any]
    key: str
    id: str
    size: int  # bytes of the params


@dataclass(slots=True)
class Checked:
    """What a file's check found; only the first of the bad lines are named."""

    count: int = 0
    faults: int = 0
    named: list[str] = field(default_factory=list)

    def note(self, fault: LineInvalid) -> None:
        """Keep a bad line."""
        self.faults += 1
        if len(self.named) < SHOWN_FAULTS:
            self.named.append(str(fault))


def check_all(source: IO[bytes], run: Run, take: Callable[[Line], None]) -> Checked:
    """Check every line, give those in order to `take`, and return what was found.

    Raises:
        LineInvalid: a line is so long that the rest can't be read.
    """
    checked, first_at = Checked(), dict[int, int]()
    for number, text in numbered(source):
        try:
            line = run.line(number, text)
            _check_new(line, first_at)
        except LineInvalid as fault:
            checked.note(fault)
            continue
        take(line)
        checked.count += 1
    return checked


def numbered(source: IO[bytes]) -> Iterator[tuple[int, bytes]]:
    """Yield the lines with their numbers from 1, without those that are empty; raises LineInvalid."""
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
    if not isinstance(custom_id, str) or not CUSTOM_ID.fullmatch(custom_id):
        raise LineInvalid(number, "custom_id", "must be 1 to 64 letters, digits, dashes or underscores")
    return custom_id, value.get("params")


def _check_new(line: Line, first_at: dict[int, int]) -> None:
    # Eight bytes stand for each custom_id: a million of them take some 100 MB less than their texts.
    digest = int.from_bytes(hashlib.blake2b(line.custom_id.encode(), digest_size=DIGEST_BYTES).digest())
    earlier = first_at.setdefault(digest, line.number)
    if earlier != line.number:
        raise LineInvalid(line.number, "custom_id", f"must be unique: line {earlier:,} has it too")
