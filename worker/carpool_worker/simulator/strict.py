"""Reads a create's body as a whole, and raises the documented error for anything that is wrong with it."""

import re

import msgspec

from carpool_worker.simulator.errors import invalid

CUSTOM_ID = "[a-zA-Z0-9_-]{1,64}"
MAX_CUSTOM_ID_CHARS = 64
Fields = dict[str, msgspec.Raw]


def read_strictly(body: bytes, max_requests: int) -> list[tuple[str, msgspec.Raw]]:
    """Return custom_id and params of each request; raise ApiError (400) with the API's words."""
    items = _requests_of(body)
    if not items:
        raise invalid("requests: List should have at least 1 item after validation, not 0")
    if len(items) > max_requests:
        limit = f"List should have at most {max_requests} items after validation, not {len(items)}"
        raise invalid(f"requests: {limit}")
    requests = [_request(item, f"requests.{number}") for number, item in enumerate(items)]
    _refuse_duplicates([custom_id for custom_id, _ in requests])
    return requests


def _requests_of(body: bytes) -> list[msgspec.Raw]:
    fields = _fields(body, "request body")
    _refuse_unknown_fields(fields, {"requests"}, "")
    if "requests" not in fields:
        raise invalid("requests: Field required")
    try:
        return msgspec.json.decode(fields["requests"], type=list[msgspec.Raw])
    except msgspec.ValidationError:
        raise invalid("requests: Input should be a valid list") from None


def _request(item: msgspec.Raw, place: str) -> tuple[str, msgspec.Raw]:
    fields = _fields(item, place)
    _refuse_unknown_fields(fields, {"custom_id", "params"}, f"{place}.")
    for name in ("custom_id", "params"):
        if name not in fields:
            raise invalid(f"{place}.{name}: Field required")
    custom_id = _custom_id(fields["custom_id"], f"{place}.custom_id")
    _fields(fields["params"], f"{place}.params")
    return custom_id, fields["params"]


def _fields(raw: bytes | msgspec.Raw, place: str) -> Fields:
    try:
        return msgspec.json.decode(raw, type=Fields)
    except msgspec.ValidationError:
        raise invalid(f"{place}: Input should be a valid dictionary") from None
    except msgspec.DecodeError as error:
        raise invalid(f"The request body is not valid JSON: {error}") from None


def _custom_id(raw: msgspec.Raw, place: str) -> str:
    try:
        custom_id = msgspec.json.decode(raw, type=str)
    except msgspec.ValidationError:
        raise invalid(f"{place}: Input should be a valid string") from None
    if len(custom_id) > MAX_CUSTOM_ID_CHARS:
        raise invalid(f"{place}: String should have at most {MAX_CUSTOM_ID_CHARS} characters")
    if not re.fullmatch(CUSTOM_ID, custom_id):
        raise invalid(f"{place}: String should match pattern '^{CUSTOM_ID}$'")
    return custom_id


def _refuse_unknown_fields(fields: Fields, known: set[str], place: str) -> None:
    for name in fields:
        if name not in known:
            raise invalid(f"{place}{name}: Extra inputs are not permitted")


def _refuse_duplicates(custom_ids: list[str]) -> None:
    seen: set[str] = set()
    for custom_id in custom_ids:
        if custom_id in seen:
            problem = f"custom_id's must be unique within a batch. Duplicate custom_id found: {custom_id}"
            raise invalid(f"requests: {problem}")
        seen.add(custom_id)
