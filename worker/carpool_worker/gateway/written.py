"""Short answers that are written in one piece: what aiohttp does for an answer takes longer than all of a 202."""

from __future__ import annotations

from http import HTTPStatus

from aiohttp import HttpVersion11, web
from aiohttp.helpers import rfc822_formatted_time

from carpool_worker.gateway.request_id import common_headers

JSON_HEAD = "content-type: application/json\r\n"


class WrittenAnswer(web.StreamResponse):
    """An answer that has been handed to the network already; the connection stays open."""

    @property
    def prepared(self) -> bool:
        """Whether its headers have been sent."""
        return True

    @property
    def keep_alive(self) -> bool:
        """Whether the connection stays open."""
        return True

    async def prepare(self, request: web.BaseRequest) -> None:
        """Do nothing."""

    async def write_eof(self, data: bytes = b"") -> None:
        """Do nothing."""


def is_possible(request: web.Request) -> bool:
    """Return whether a call can have such an answer: its connection stays open, as HTTP/1.1 has it."""
    return request.keep_alive and request.version == HttpVersion11


def write_json(
    request: web.Request, status: HTTPStatus, headers: dict[str, str], body: bytes
) -> WrittenAnswer:
    """Write an answer; raises ConnectionError if the caller has gone."""
    transport = request.transport
    if transport is None or transport.is_closing():
        raise ConnectionResetError("the caller has gone")
    found = "".join([f"{name}: {value}\r\n" for name, value in (headers | common_headers(request)).items()])
    head = (
        f"HTTP/1.1 {status.value} {status.phrase}\r\n{JSON_HEAD}content-length: {len(body)}\r\n"
        f"date: {rfc822_formatted_time()}\r\n{found}\r\n"
    )
    transport.write(head.encode("utf-8", "surrogateescape") + body)
    return WrittenAnswer(status=status.value, reason=status.phrase)
