"""One connection: aiohttp's own, with a time limit for headers, and errors as the API words them."""

from __future__ import annotations

import asyncio
import gc
from collections import deque
from typing import Any

from aiohttp import web
from aiohttp.http_parser import RawRequestMessage

from carpool_worker.gateway.errors import KINDS, error_body
from carpool_worker.gateway.request_id import SERVER, new_request_id

HEADER_SECONDS = 10.0
"""How long the headers of a call may take, from its first byte on, or from the connection's beginning."""

IDLE_SECONDS = 75.0
"""How long a connection is kept without a call: longer than proxies keep theirs, so that these end them."""

LINGERING_SECONDS = 2.0
"""How long the rest of a body that was refused is read, so that its sender gets the answer."""

MOST_HEADERS = 100
LONGEST_LINE = 8_190
"""Bytes of a line, the first one included."""


_NOTHING: deque[bytes] = deque(maxlen=0)
"""What is left of every body that has been read."""


class _Messages(list[Any]):
    """The calls of a connection that have not begun. Thousands are held, and an empty deque takes 760 bytes."""

    __slots__ = ()

    def popleft(self) -> Any:
        """Take out the call that came first."""
        return self.pop(0)


class GatewayConnection(web.RequestHandler):
    """Ends itself when the headers of a call don't come in time, for which aiohttp has no limit of its own."""

    __slots__ = ("_is_answering", "_is_ending", "_reading_since")

    def __init__(self, manager: web.Server) -> None:
        super().__init__(
            manager,
            loop=asyncio.get_running_loop(),
            access_log=None,  # type: ignore[arg-type]  # None: there is none
            keepalive_timeout=IDLE_SECONDS,
            lingering_time=LINGERING_SECONDS,
            max_line_size=LONGEST_LINE,
            max_field_size=LONGEST_LINE,
            max_headers=MOST_HEADERS,
        )
        self._messages = _Messages()  # type: ignore[assignment]
        self._reading_since: float | None = None
        """When the headers that are waited for began, by the loop's clock."""
        self._is_answering = False
        self._is_ending = False
        """It takes no further call once this one is answered."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Begin, and wait for the first call."""
        super().connection_made(transport)
        self._reading_since = self._loop.time()

    def data_received(self, data: bytes) -> None:
        """Take what has arrived."""
        if self._reading_since is None and not self._is_answering:
            self._reading_since = self._loop.time()
        super().data_received(data)
        if self._messages:
            self._drop_raw_headers()

    def begin_call(self) -> None:
        """Note that the headers of a call are complete."""
        self._is_answering = True
        self._reading_since = None

    def end_call(self) -> None:
        """Note that the call has its answer; what arrives next is another one."""
        self._is_answering = False
        if self._is_ending:
            super().close()

    def close(self) -> None:
        """Take no further call; one whose body is still arriving gets the rest, which aiohttp would throw away."""
        call = self._current_request
        if call is not None and self._is_answering and not call.content.is_eof():
            self._is_ending = True
        else:
            super().close()

    def _drop_raw_headers(self) -> None:
        """Drop the headers as they came, which nobody reads: while its call waits, each connection would keep 3 kB."""
        for place, (head, payload) in enumerate(self._messages):
            if isinstance(head, RawRequestMessage) and head.raw_headers:
                _clear_headers(self._parser, head.raw_headers)
                self._messages[place] = head._replace(raw_headers=()), payload

    def handle_error(
        self,
        request: web.BaseRequest,
        status: int = 500,
        exc: BaseException | None = None,
        message: str | None = None,
    ) -> web.StreamResponse:
        """Return the answer to what is no HTTP, or to a call that failed outside of all routes."""
        if request.writer.output_size > 0:
            raise ConnectionError("an answer has begun already")
        request_id = new_request_id()
        text = (
            (message or "The request can't be read.").partition("\n")[0]
            if status < 500
            else "Internal error."
        )
        response = web.Response(
            body=error_body(KINDS.get(status, "api_error"), text, request_id),
            status=status,
            headers={"request-id": request_id, "server": SERVER},
            content_type="application/json",
        )
        response.force_close()
        return response

    def end_if_late(self) -> None:
        """End the connection if the headers that it waits for are late."""
        since = self._reading_since
        if since is not None and self.transport is not None and self._loop.time() - since > HEADER_SECONDS:
            self.transport.abort()


def _clear_headers(parser: object, headers: tuple[tuple[bytes, bytes], ...]) -> None:
    """Clear what the parser keeps of these headers until the next call begins; once that has, it has its own.

    It has one list of them in bytes and one in text, and no attribute that shows them.
    """
    lists = [one for one in gc.get_referents(parser) if type(one) is list and len(one) == len(headers)]
    if any(one[0] is headers[0] for one in lists):
        for one in lists:
            one.clear()


def give_back_buffer(request: web.BaseRequest) -> None:
    """Give back what held a body that has been read to its end: while the call waits, it would keep 760 bytes."""
    if request.content.is_eof():
        request.content._buffer = _NOTHING  # it is empty, and nothing comes after the end


async def end_late_ones(server: web.Server) -> None:
    """End the connections whose headers are late, now and then: a timer for each would cost every call."""
    while True:
        await asyncio.sleep(HEADER_SECONDS / 10)
        for connection in server.connections:
            if isinstance(connection, GatewayConnection):
                connection.end_if_late()
