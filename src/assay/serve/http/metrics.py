"""The metrics port: ``GET /metrics`` and nothing else."""

from __future__ import annotations

from collections.abc import Iterable

from assay.serve.errors import METHOD, NOT_FOUND, ServeError, serve_error
from assay.serve.http.exchange import Exchange
from assay.serve.http.head import Head
from assay.serve.http.message import Answer
from assay.serve.metrics import CONTENT_TYPE, Extra, exposition
from assay.serve.repository import Repository


class MetricsApplication:
    def __init__(self, repository: Repository, extra: Iterable[Extra] = ()) -> None:
        self._repository = repository
        self._extra = tuple(extra)

    def admit(self, head: Head) -> None:
        if head.path != "/metrics":
            raise ServeError(NOT_FOUND, "metrics are at /metrics")
        if head.method != "GET":
            error = ServeError(METHOD, f"{head.method} is not allowed at /metrics; GET is")
            error.allow = "GET"
            raise error

    def handle(self, exchange: Exchange) -> None:
        exchange.release()
        try:
            text = exposition(self._repository, self._extra)
        except Exception as error:
            exchange.fail(serve_error(error))
            return
        exchange.reply(Answer(200, (text.encode(),), CONTENT_TYPE))
