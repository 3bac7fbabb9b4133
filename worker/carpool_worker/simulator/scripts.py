"""Scripted outcomes: what becomes of the requests that they name."""

from collections import Counter
from collections.abc import Iterable
from hashlib import blake2b
from typing import Annotated, Literal

import msgspec

from carpool_worker.simulator.params import Params

ScriptedOutcome = Literal["succeeded", "refused", "errored", "expired", "canceled"]


class Script(msgspec.Struct, kw_only=True, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """The outcome of every request that has this custom_id, this model and this text (each where given).

    `contains` looks into the last user message. `share` picks that part of the requests, always the same
    ones. `times` holds for the first so many runs of each request. `text` is the answer of a succeeded one;
    `error_type` and `message` are the error of an errored one.
    """

    outcome: ScriptedOutcome = "succeeded"
    text: str | None = None
    error_type: str = "api_error"
    message: str = "Internal server error"
    custom_id: str | None = None
    model: str | None = None
    contains: str | None = None
    share: Annotated[float, msgspec.Meta(ge=0, le=1)] = 1.0
    times: int | None = None

    def fits(self, custom_id: str, params: Params) -> bool:
        """Tell whether the script is about this request."""
        return (
            self.custom_id in (None, custom_id)
            and self.model in (None, params.model)
            and (self.contains is None or self.contains in params.last_user_text())
            and (self.share == 1.0 or _position(custom_id) < self.share)
        )


class Scripts:
    """The scripts in force; the first one that fits a request decides."""

    def __init__(self, scripts: Iterable[Script] = ()) -> None:
        self._scripts = list(scripts)
        self._uses: Counter[tuple[int, str]] = Counter()

    def add(self, scripts: Iterable[Script]) -> None:
        """Add scripts behind those in force."""
        self._scripts = [*self._scripts, *scripts]

    def clear(self) -> None:
        """Forget all scripts and how often each was used."""
        self._scripts = []
        self._uses.clear()

    def in_force(self) -> list[Script]:
        """Return all scripts."""
        return self._scripts

    def use(self, custom_id: str, params: Params) -> Script | None:
        """Return the script that decides this run of the request, and count it."""
        for number, script in enumerate(self._scripts):
            if script.fits(custom_id, params) and self._lasts(number, script, custom_id):
                return script
        return None

    def _lasts(self, number: int, script: Script, custom_id: str) -> bool:
        if script.times is None:
            return True
        self._uses[number, custom_id] += 1
        return self._uses[number, custom_id] <= script.times


def _position(custom_id: str) -> float:
    """Spread custom_ids evenly over 0 … 1, each always at the same place."""
    return int.from_bytes(blake2b(custom_id.encode(), digest_size=6).digest()) / 2**48
