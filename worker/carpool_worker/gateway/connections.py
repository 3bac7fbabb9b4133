"""One connection: aiohttp's own, with a time limit for headers, and errors as the API words them."""

from __future__ import annotations

import asyncio

from aiohttp import web

from carpool_worker.gateway.errors import KINDS, error_body
from carpool_worker.gateway.request_id import new_request_id

HEADER_SECONDS = 10.0
"""How long the headers of a call may take, from its first byte on, or from the connection's beginning."""

IDLE_SECONDS = 75.0
"""How long a connection is kept without a call: longer than proxies keep theirs, so that these end them."""

LINGERING_SECONDS = 2.0
"""How long the rest of a body that was refused is read, so that its sender gets the answer."""

MOST_HEADERS = 100
LONGEST_LINE = 8_190
"""Bytes of a line, the first one included."""


class GatewayConnection(web.RequestHandler):
    """Ends itself when the headers of a call don't come in time, for which aiohttp has no limit of its own."""

    __slots__ = ("_is_answering", "_timer")

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
        self._timer: asyncio.TimerHandle | None = None
        self._is_answering = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Begin, and wait for the first call."""
        super().connection_made(transport)
        self._start_timer()

    def connection_lost(self, exc: BaseException | None) -> None:
        """End."""
        self._stop_timer()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Take what has arrived."""
        if not self._is_answering and self._timer is None:
            self._start_timer()
        super().data_received(data)

    def begin_call(self) -> None:
        """Note that the headers of a call are complete."""
        self._is_answering = True
        self._stop_timer()

    def end_call(self) -> None:
        """Note that the call has its answer; what arrives next is another one."""
        self._is_answering = False

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
            headers={"request-id": request_id},
            content_type="application/json",
        )
        response.force_close()
        return response

    def _start_timer(self) -> None:
        self._timer = asyncio.get_running_loop().call_later(HEADER_SECONDS, self._give_up)

    def _stop_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _give_up(self) -> None:
        self._timer = None
        if not self._is_answering and self.transport is not None:
            self.transport.abort()
