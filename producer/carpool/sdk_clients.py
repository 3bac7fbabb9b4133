"""Anthropic's own clients, with every call through Carpool's gateway. They need the extra `carpool[anthropic]`.

    client = carpool.Anthropic()        # CARPOOL_URL, else ANTHROPIC_BASE_URL; the key is in ANTHROPIC_API_KEY
    message = client.messages.create(model=…, max_tokens=…, messages=[…])

Only the address, the timeout and the idempotency key differ. The gateway answers when the batch of a call has ended,
so a call may take up to a day. The SDK repeats a call whose connection broke; since the repeat has the same key, the
gateway gives it the same answer, which is paid for once. `extra_headers={"Idempotency-Key": "invoice-42"}` sets a key
of your own, under which a program that was started again finds the answer of its earlier call.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from functools import wraps
from typing import TYPE_CHECKING, Any, ParamSpec

import anthropic

from carpool.exceptions import InvalidSetting

if TYPE_CHECKING:
    from anthropic.resources.messages import AsyncBatches, Batches

TIMEOUT_SECONDS = 24 * 60 * 60.0
IDEMPOTENCY_HEADER = "Idempotency-Key"
URL_VARIABLES = ("CARPOOL_URL", "ANTHROPIC_BASE_URL")

_Options = ParamSpec("_Options")


def _with_options_of(
    constructor: Callable[_Options, None],
) -> Callable[[Callable[..., None]], Callable[_Options, None]]:
    """Give a constructor the signature of the SDK's own, for type checkers and editors."""

    def give(own: Callable[..., None]) -> Callable[_Options, None]:
        return wraps(constructor)(own)

    return give


class Anthropic(anthropic.Anthropic):
    """`anthropic.Anthropic`, through the gateway; the same arguments.

    Raises InvalidSetting if neither `base_url` nor the environment says where the gateway is.
    """

    @_with_options_of(anthropic.Anthropic.__init__)
    def __init__(self, **options: Any) -> None:
        super().__init__(**_through_gateway(options))
        self._idempotency_header = IDEMPOTENCY_HEADER

    @property
    def batches(self) -> Batches:
        """Message Batches: the same as `messages.batches`."""
        return self.messages.batches


class AsyncAnthropic(anthropic.AsyncAnthropic):
    """`anthropic.AsyncAnthropic`, through the gateway; the same arguments.

    Raises InvalidSetting if neither `base_url` nor the environment says where the gateway is.
    """

    @_with_options_of(anthropic.AsyncAnthropic.__init__)
    def __init__(self, **options: Any) -> None:
        super().__init__(**_through_gateway(options))
        self._idempotency_header = IDEMPOTENCY_HEADER

    @property
    def batches(self) -> AsyncBatches:
        """Message Batches: the same as `messages.batches`."""
        return self.messages.batches


def _through_gateway(options: dict[str, Any]) -> dict[str, Any]:
    """Return a constructor's arguments with the gateway's address and a timeout of a day, unless they are given."""
    options = {"timeout": TIMEOUT_SECONDS} | options
    if options.get("base_url") is None:
        options["base_url"] = _url_in_environment()
    return options


def _url_in_environment() -> str:
    for variable in URL_VARIABLES:
        if url := os.environ.get(variable):
            return url
    raise InvalidSetting(" or ".join(URL_VARIABLES), "must be set to the gateway's URL, or base_url be given")
