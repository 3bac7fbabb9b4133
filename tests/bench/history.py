"""A database full of finished requests, for what the next ones cost on it.

The rows are those that the agents wrote for a few requests, once and again, each time under other ids. Nothing here
knows the tables: ids are told by their columns' names (`is_identifier`) and moved by what they are (`Shift`). So this
survives a change of the schema as long as ids are 32 hex digits, UUIDs or their 16 bytes, or integers, and begin with
the time.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any
from uuid import UUID

import sqlalchemy as sa
from sqlmodel import SQLModel
from tests.bench import bare

HEX_ID = re.compile(r"[0-9a-f]{32}")
ID_BYTES = 16
RANDOM_BITS = 80
"""Of a UUIDv7's 128, below its milliseconds."""

Rows = list[tuple[Any, ...]]
Tables = dict[str, Rows]


def is_identifier(column: str) -> bool:
    """Return whether a column of this name refers to a row of ours (or is `claude_id`, which must stay unique)."""
    return column in ("id", "ids") or (column.endswith("_id") and column != "custom_id")


@dataclass(frozen=True)
class Shift:
    """Moves ids back in time: UUIDs by milliseconds, integers by as much as they span."""

    milliseconds: int
    integers: int
    copy: int

    def __call__(self, value: Any) -> Any:
        """Return the id that stands for this one in this copy."""
        if isinstance(value, str):
            return self._hex(value) if HEX_ID.fullmatch(value) else f"{value}-{self.copy}"
        if isinstance(value, UUID):
            return UUID(int=value.int - (self.milliseconds << RANDOM_BITS))
        if isinstance(value, bytes | memoryview) and len(value) % ID_BYTES == 0:
            whole = bytes(value)
            return b"".join(self._bytes(whole[at : at + ID_BYTES]) for at in range(0, len(whole), ID_BYTES))
        return value - self.integers if isinstance(value, int) else value

    def _hex(self, value: str) -> str:
        return f"{int(value[:12], 16) - self.milliseconds:012x}{value[12:]}"

    def _bytes(self, value: bytes) -> bytes:
        return (int.from_bytes(value[:6], "big") - self.milliseconds).to_bytes(6, "big") + value[6:]


class History:
    """The rows of some finished requests, to be written many times over."""

    def __init__(self, source: sa.Engine) -> None:
        tables = {name: [row for rows in bare.pages(source, name) for row in rows] for name in _tables()}
        self._places = {name: _identifiers(name) for name in tables}
        # What has no ids, such as usage, does not grow by requests.
        self._tables = {name: rows for name, rows in tables.items() if rows and self._places[name]}
        self._milliseconds = _span([ms for value in self._ids() if (ms := _milliseconds(value)) is not None])
        self._integers = _span([value for value in self._ids() if isinstance(value, int)])
        self.requests = len(tables["requests"])

    def write(self, target: sa.Engine, count: int, show: Callable[[float], None]) -> int:
        """Fill empty tables with at least `count` finished requests, the oldest first; return how many."""
        copies = -(-count // self.requests)
        for number in range(copies):
            with target.begin() as connection:
                for name, rows in self._copy(copies - number).items():
                    for part in bare.chunked(rows, bare.CHUNK):
                        bare.insert(connection, name, bare.columns(name), part)
            show((number + 1) / copies)
        return copies * self.requests

    def _copy(self, number: int) -> Tables:
        shift = Shift(number * self._milliseconds, number * self._integers, number)
        return {name: list(self._shifted(name, rows, shift)) for name, rows in self._tables.items()}

    def _shifted(self, name: str, rows: Sequence[tuple[Any, ...]], shift: Shift) -> Iterator[tuple[Any, ...]]:
        places = self._places[name]
        for row in rows:
            moved = list(row)
            for place in places:
                moved[place] = shift(moved[place])
            yield tuple(moved)

    def _ids(self) -> Iterator[Any]:
        for name, rows in self._tables.items():
            yield from (row[place] for row in rows for place in self._places[name])


def _tables() -> list[str]:
    return list(SQLModel.metadata.tables)


def _identifiers(table: str) -> list[int]:
    return [place for place, column in enumerate(bare.columns(table)) if is_identifier(column)]


def _milliseconds(value: Any) -> int | None:
    if isinstance(value, UUID):
        return value.int >> RANDOM_BITS
    if isinstance(value, bytes | memoryview) and len(value) == ID_BYTES:
        return int.from_bytes(bytes(value)[:6], "big")
    return int(value[:12], 16) if isinstance(value, str) and HEX_ID.fullmatch(value) else None


def _span(values: list[int]) -> int:
    return max(values) - min(values) + 1 if values else 0
