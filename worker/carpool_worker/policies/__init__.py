"""Decisions, each a pure function: no database, no Redis, no network."""
