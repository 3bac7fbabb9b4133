"""Kinds of columns: ids, exact money, digests, states with their checks, and 64-bit integers."""

from __future__ import annotations

from collections.abc import Sequence
from decimal import Decimal
from enum import StrEnum
from typing import Any

import sqlalchemy as sa

from carpool_worker.units import DOLLAR


class _NativeId(sa.types.UserDefinedType[str]):
    """PostgreSQL's uuid. The driver reads it as 32 hex digits (see engines.py) and accepts them."""

    cache_ok = True
    render_bind_cast = True

    def get_col_spec(self, **options: Any) -> str:
        """Return the type's name."""
        return "UUID"


class Id(sa.types.TypeDecorator[str]):
    """An id of 32 hex digits, stored in 16 bytes: as a uuid on PostgreSQL, as a blob on SQLite."""

    impl = sa.LargeBinary
    cache_ok = True

    def load_dialect_impl(self, dialect: sa.Dialect) -> sa.types.TypeEngine[Any]:
        """Return the type that the database has for it."""
        return dialect.type_descriptor(_NativeId() if dialect.name == "postgresql" else sa.LargeBinary(16))

    def process_bind_param(self, value: str | None, dialect: sa.Dialect) -> str | bytes | None:
        """Store an id."""
        return value if value is None or dialect.name == "postgresql" else bytes.fromhex(value)

    def process_result_value(self, value: Any, dialect: sa.Dialect) -> str | None:
        """Load an id."""
        return None if value is None else value if isinstance(value, str) else bytes(value).hex()


class Digest(sa.types.TypeDecorator[str]):
    """A digest of 16 hex digits, stored as a 64-bit integer."""

    impl = sa.BigInteger
    cache_ok = True

    def process_bind_param(self, value: str | None, dialect: sa.Dialect) -> int | None:
        """Store a digest."""
        return None if value is None else digest_number(value)

    def process_result_value(self, value: int | None, dialect: sa.Dialect) -> str | None:
        """Load a digest."""
        return None if value is None else value.to_bytes(8, "big", signed=True).hex()


def digest_number(digest: str) -> int:
    """Return a digest of 16 hex digits as it is stored."""
    return int.from_bytes(bytes.fromhex(digest), "big", signed=True)


class Dollars(sa.types.TypeDecorator[Decimal]):
    """Decimal dollars, stored as an integer number of picodollars: exact on every database, and sums stay exact."""

    impl = sa.BigInteger
    cache_ok = True

    def process_bind_param(self, value: Decimal | None, dialect: sa.Dialect) -> int | None:
        """Store dollars."""
        return None if value is None else int(value * DOLLAR)

    def process_result_value(self, value: int | None, dialect: sa.Dialect) -> Decimal | None:
        """Load dollars."""
        return None if value is None else Decimal(value) / DOLLAR


def state_column(states: type[StrEnum]) -> Any:
    """Return a column that stores a state's value, not its member's name."""
    kind = sa.Enum(
        states,
        values_callable=lambda members: [member.value for member in members],
        native_enum=False,
        length=16,
    )
    return sa.Column("state", kind, nullable=False)


def state_checks(
    table: str, states: type[StrEnum], **finished: Sequence[StrEnum]
) -> list[sa.CheckConstraint]:
    """Return checks that allow only these states, and a final state only together with its timestamp.

    `finished` maps each timestamp's column to its states. The states are compared one by one, as SQLite would build the
    list of an IN anew for every row that it writes.
    """
    checks = [sa.CheckConstraint(_one_of(list(states)), name=f"ck_{table}_state")]
    for column, final in finished.items():
        check = f"({_one_of(final)}) = ({column} IS NOT NULL)"
        checks.append(sa.CheckConstraint(check, name=f"ck_{table}_{column}"))
    return checks


def _one_of(states: Sequence[StrEnum]) -> str:
    return " OR ".join(f"state = '{state.value}'" for state in states)


def identity(*, primary_key: bool = False, nullable: bool = False) -> Any:
    """Return a column of ids."""
    return sa.Column(Id, primary_key=primary_key, nullable=nullable)


def big() -> Any:
    """Return a nullable 64-bit integer column."""
    return sa.Column(sa.BigInteger)


def count() -> Any:
    """Return a 64-bit counter that starts at zero."""
    return sa.Column(sa.BigInteger, nullable=False, server_default="0")


def number() -> Any:
    """Return an integer column that is zero by default."""
    return sa.Column(sa.Integer, nullable=False, server_default="0")
