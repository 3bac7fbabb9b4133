"""Scripts: they decide the outcomes of the requests that they match."""

from collections import Counter
from collections.abc import Iterable
from hashlib import blake2b
from typing import Annotated, Any, Literal

import msgspec

from carpool_worker.simulator.params import SimulatedParams

ScriptedOutcome = Literal["succeeded", "refused", "errored", "expired", "canceled"]


class Script(msgspec.Struct, kw_only=True, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """The outcome of every request with this custom_id, this model and this text (each if given).

    `contains` is searched for in the last user message. `share` picks that fraction of them, always the same ones.
    `times` limits the script to that many runs of each request. `text` is the answer of a succeeded one, or `content`
    its blocks as they stand; `error_type` and `message` are the error of an errored one.
    """

    outcome: ScriptedOutcome = "succeeded"
    text: str | None = None
    content: list[dict[str, Any]] | None = None
    error_type: str = "api_error"
    message: str = "Internal server error"
    custom_id: str | None = None
    model: str | None = None
    contains: str | None = None
    share: Annotated[float, msgspec.Meta(ge=0, le=1)] = 1.0
    times: int | None = None

    def fits(self, custom_id: str, params: SimulatedParams) -> bool:
        """Return whether the script applies to this request."""
        return (
            self.custom_id in (None, custom_id)
            and self.model in (None, params.model)
            and (self.contains is None or self.contains in params.last_user_text())
            and (self.share == 1.0 or _position(custom_id) < self.share)
        )


class Scripts:
    """The scripts in force; the first one that applies to a request decides."""

    def __init__(self, scripts: Iterable[Script] = ()) -> None:
        self._scripts = list(scripts)
        self._uses: Counter[tuple[int, str]] = Counter()

    def add(self, scripts: Iterable[Script]) -> None:
        """Add scripts, after those in force."""
        self._scripts = [*self._scripts, *scripts]

    def clear(self) -> None:
        """Remove all scripts, and forget how often each was used."""
        self._scripts = []
        self._uses.clear()

    def in_force(self) -> list[Script]:
        """Return all scripts."""
        return self._scripts

    def use(self, custom_id: str, params: SimulatedParams) -> Script | None:
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
    """Map custom_ids evenly to 0 … 1, each always to the same number."""
    return int.from_bytes(blake2b(custom_id.encode(), digest_size=6).digest()) / 2**48
