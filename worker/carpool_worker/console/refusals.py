"""What pages refuse, as a status and a sentence that a page shows."""

from __future__ import annotations

from aiohttp import web

from carpool_worker.exceptions import WorkerError


class PageRefused(WorkerError):
    """A page that can't be shown, or an act that is not done: a status of HTTP and a sentence for whoever asked."""

    def __init__(self, status: int, sentence: str) -> None:
        super().__init__(sentence)
        self.status = status


class BadFilter(PageRefused):
    """What the URL or a form says can't be understood: 400."""

    def __init__(self, sentence: str) -> None:
        super().__init__(400, sentence)


class NotHere(PageRefused):
    """There is no such page, batch or request, or it is somebody else's: 404."""

    def __init__(self, sentence: str = "There is no such page.") -> None:
        super().__init__(404, sentence)


class NotAllowed(PageRefused):
    """Whoever asks may not: 403."""

    def __init__(self, sentence: str) -> None:
        super().__init__(403, sentence)


TITLES = {
    400: "That can't be done",
    403: "Not allowed",
    404: "Not found",
    421: "Another host",
    429: "Too many tries",
    500: "Something went wrong here",
    503: "Not reachable",
}
"""What a page of an error has as its heading, by its status."""


def of_http(error: web.HTTPException) -> PageRefused:
    """Return aiohttp's error as one of ours."""
    if error.status == 404:
        return NotHere()
    return PageRefused(error.status, error.reason or "The request can't be answered.")
