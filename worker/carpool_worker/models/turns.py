"""Turns: whose requests are submitted next where there is not room for all (see policies/fairness.py)."""

from __future__ import annotations

import sqlalchemy as sa
from sqlmodel import Field, SQLModel


class ClientTurn(SQLModel, table=True):
    """Until when a client of an account has been served, in virtual time; of the client "", the account's clock."""

    __tablename__ = "client_turns"

    account: str = Field(primary_key=True)  # "": the default one
    client: str = Field(primary_key=True)
    served: int = Field(sa_column=sa.Column(sa.BigInteger, nullable=False))
