"""A crash at each point of the way."""

from __future__ import annotations
