"""Reads a create's body as a whole, and refuses it with the API's words for anything that is wrong with it."""

import mmap
import re

import msgspec

CUSTOM_ID = "[a-zA-Z0-9_-]{1,64}"
MAX_CUSTOM_ID_CHARS = 64
Fields = dict[str, msgspec.Raw]


class BodyRefused(ValueError):
    """The body breaks a rule of the API; the text names the field and the rule, as the API words it (status 400)."""


def read_strictly(body: bytes | mmap.mmap, max_requests: int) -> list[tuple[str, msgspec.Raw]]:
    """Return custom_id and params of each request; raise BodyRefused."""
    items = _requests_of(body)
    if not items:
        raise BodyRefused("requests: List should have at least 1 item after validation, not 0")
    if len(items) > max_requests:
        limit = f"List should have at most {max_requests} items after validation, not {len(items)}"
        raise BodyRefused(f"requests: {limit}")
    requests = [_request(item, f"requests.{number}") for number, item in enumerate(items)]
    _refuse_duplicates([custom_id for custom_id, _ in requests])
    return requests


def _requests_of(body: bytes | mmap.mmap) -> list[msgspec.Raw]:
    fields = _fields(body, "request body")
    _refuse_unknown_fields(fields, {"requests"}, "")
    if "requests" not in fields:
        raise BodyRefused("requests: Field required")
    try:
        return msgspec.json.decode(fields["requests"], type=list[msgspec.Raw])
    except msgspec.ValidationError:
        raise BodyRefused("requests: Input should be a valid list") from None


def _request(item: msgspec.Raw, place: str) -> tuple[str, msgspec.Raw]:
    fields = _fields(item, place)
    _refuse_unknown_fields(fields, {"custom_id", "params"}, f"{place}.")
    for name in ("custom_id", "params"):
        if name not in fields:
            raise BodyRefused(f"{place}.{name}: Field required")
    custom_id = _custom_id(fields["custom_id"], f"{place}.custom_id")
    _fields(fields["params"], f"{place}.params")
    _refuse_bad_text(bytes(fields["params"]))
    return custom_id, fields["params"]


def _fields(raw: bytes | mmap.mmap | msgspec.Raw, place: str) -> Fields:
    try:
        return msgspec.json.decode(raw, type=Fields)
    except msgspec.ValidationError:
        raise BodyRefused(f"{place}: Input should be a valid dictionary") from None
    except msgspec.DecodeError as error:
        raise BodyRefused(f"The request body is not valid JSON: {error}") from None
    except RecursionError:
        raise BodyRefused("The request body is not valid JSON: it is nested too deeply") from None


def _refuse_bad_text(text: bytes) -> None:
    try:
        text.decode()  # msgspec does not check what it does not turn into strings
    except UnicodeDecodeError as error:
        raise BodyRefused(f"The request body is not valid JSON: invalid UTF-8, {error.reason}") from None


def _custom_id(raw: msgspec.Raw, place: str) -> str:
    try:
        custom_id = msgspec.json.decode(raw, type=str)
    except msgspec.ValidationError:
        raise BodyRefused(f"{place}: Input should be a valid string") from None
    if len(custom_id) > MAX_CUSTOM_ID_CHARS:
        raise BodyRefused(f"{place}: String should have at most {MAX_CUSTOM_ID_CHARS} characters")
    if not re.fullmatch(CUSTOM_ID, custom_id):
        raise BodyRefused(f"{place}: String should match pattern '^{CUSTOM_ID}$'")
    return custom_id


def _refuse_unknown_fields(fields: Fields, known: set[str], place: str) -> None:
    for name in fields:
        if name not in known:
            raise BodyRefused(f"{place}{name}: Extra inputs are not permitted")


def _refuse_duplicates(custom_ids: list[str]) -> None:
    seen: set[str] = set()
    for custom_id in custom_ids:
        if custom_id in seen:
            problem = f"custom_id's must be unique within a batch. Duplicate custom_id found: {custom_id}"
            raise BodyRefused(f"requests: {problem}")
        seen.add(custom_id)
