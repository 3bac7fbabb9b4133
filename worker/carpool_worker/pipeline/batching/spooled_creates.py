"""A create's requests as they arrive: their params are checked, and they wait on disk until all are there."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import BinaryIO

import msgspec

from carpool.exceptions import InvalidRequest
from carpool.params import check_encoded, is_model
from carpool_worker.batch_bodies.spool import Item, Spooled, read_part

CHUNK_REQUESTS = 2_000
CHUNK_BYTES = 4_000_000
"""Requests that are in memory at a time, and bytes of their params: of one part more, of which none is larger than 16
MB unless a single request is."""

INVALID = "invalid_request_error"
FORBIDDEN = "permission_error"
"""The API's types of the errors of requests that are not sent."""


UNKNOWN_MODEL = "unknown"
"""The model of a request whose params name none."""


class ParamsChecks:
    """Checks params while they arrive; `allows` decides whether the client may use a model. A BodySpool's `see`."""

    def __init__(self, allows: Callable[[str], bool] = lambda _: True) -> None:
        self._allows = allows
        self.models: set[str] = set()
        self.errors: dict[int, tuple[str, str]] = {}  # by the request's number: type and text
        self.size = 0  # bytes of the params of those without an error

    def see(self, first: int, items: Sequence[Item]) -> None:
        """Check some requests, the first of which has this number."""
        if first == 0:
            self.models, self.errors, self.size = set(), {}, 0
        for number, item in enumerate(items, first):
            try:
                model = check_encoded(item.params)
            except InvalidRequest as error:
                self.errors[number] = INVALID, f"{error.field}: {error.rule}"
                continue
            if self._allows(model):
                self.models.add(model)
                self.size += len(item.params)
            else:
                self.errors[number] = FORBIDDEN, f"model: {model} is not allowed with this API key"


@dataclass(frozen=True)
class SpooledCreate:
    """A create's requests on disk, checked."""

    file: BinaryIO
    spooled: Spooled
    checks: ParamsChecks

    def chunks(self) -> Iterator[tuple[int, list[Item]]]:
        """Yield some requests at a time, and the number of the first of them."""
        first, size = 0, 0
        items: list[Item] = []
        bounds = self.spooled.parts
        for start, end in zip(bounds[::2], bounds[1::2], strict=True):
            items += read_part(self.file, start, end)
            size += end - start
            if len(items) >= CHUNK_REQUESTS or size >= CHUNK_BYTES:
                yield first, items
                first, size, items = first + len(items), 0, []
        if items:
            yield first, items


class _Named(msgspec.Struct):
    model: str = UNKNOWN_MODEL


_decode_named = msgspec.json.Decoder(_Named).decode


def model_of(params: msgspec.Raw) -> str:
    """Return the model that params name; UNKNOWN_MODEL if they name none."""
    try:
        model = _decode_named(params).model
    except (msgspec.DecodeError, RecursionError):
        return UNKNOWN_MODEL
    return model if is_model(model) else UNKNOWN_MODEL
