"""``assay serve``: models, decode pool, repository and front ends put together and run until told to stop."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Callable, Mapping
from typing import Any

from assay.core import clock
from assay.core.errors import AssayError, UnknownName
from assay.core.record import Record, RecordLog
from assay.job.serve.loading import Models, Watcher
from assay.job.serve.options import ServeRequest
from assay.measure.environment import cores_granted
from assay.serve.decoding import DecodePool
from assay.serve.errors import ServeError
from assay.serve.repository import Repository
from assay.serve.server import Server
from assay.serve.settings import LOOPBACK
from assay.serve.shadow import Shadow, ShadowRule, parse_shadow
from assay.serve.shared_memory import SharedMemoryRegistry

Event = Callable[[str, Mapping[str, Any]], None]


FILES_BESIDES = 256
"""Open files a server needs besides its connections."""


def allow_files(connections: int) -> None:
    """Raise this process's own limit on open files, where the system lets it: each connection is one, and a server
    that cannot accept can only let its callers wait.  REST, gRPC and metrics count theirs apart."""
    if sys.platform == "win32":  # which has no such limit
        return
    import resource

    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = 3 * connections + FILES_BESIDES
    if soft != resource.RLIM_INFINITY and soft < wanted:
        most = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
        resource.setrlimit(resource.RLIMIT_NOFILE, (most, hard))


def shadow_rules(request: ServeRequest, models: Models) -> list[ShadowRule]:
    """Raises BadInput for what is no rule, UnknownName for a model that is not served."""
    rules = [parse_shadow(text) for text in request.shadows]
    known = models.named if request.watch is None else ()
    for rule in rules:
        for name in (rule.old, rule.new):
            if known and name not in known:
                raise UnknownName("model to shadow", name, known)
    return rules


class Serve:
    """A server that is put together but not running yet."""

    def __init__(self, request: ServeRequest, event: Event) -> None:
        """Raises BadInput for names that clash or sources that are not there."""
        self.request = request
        self.models = Models(request, event)
        cores = max(1, int(cores_granted()))
        self.repository = Repository(self.models, DecodePool(request.decoders or cores), event)
        self.memory = SharedMemoryRegistry() if request.settings.access.admin else None
        self._records = RecordLog(request.shadow_out / "records.jsonl") if request.shadow_out is not None else None
        rules = shadow_rules(request, self.models)
        self.shadow = Shadow(self.repository, rules, self._told) if rules else None
        if self.shadow is not None:
            self.repository.before_close.append(self.shadow.close)
        self.repository.starting = True
        extra = (self.shadow.metrics,) if self.shadow is not None else ()
        self.server = Server(self.repository, request.settings, event, self.memory, self.shadow, extra)
        self._event = event
        self._watcher: Watcher | None = None

    def run(self, *, signals: bool = True) -> bool:
        """Serve until stopped; whether everything that was begun was finished.

        Raises what makes a model named on the command line impossible to serve.
        """
        allow_files(self.request.settings.limits.connections)
        with contextlib.ExitStack() as stack:
            if self._records is not None:
                assert self.request.shadow_out is not None
                self.request.shadow_out.mkdir(parents=True, exist_ok=True)
                stack.enter_context(self._records)
            stack.callback(self._close)
            return self.server.run(self._load, signals=signals)

    def _told(self, record: Record) -> None:
        """A window of the canary's comparisons."""
        if self._records is not None:
            try:
                self._records.append(record)
            except AssayError as error:  # a full disk ends no server; the comparison goes on, and is told below
                self._event("error", {"kind": type(error).__name__, "message": str(error)})
        figures = {name: figure.value for name, figure in record.figures.items()}
        about = {"model": record.subject["reference"], "shadow": record.subject["model"]}
        self._event("shadow", {**about, **figures, "warnings": list(record.warnings)})

    def _close(self) -> None:
        if self._watcher is not None:
            self._watcher.stop()
        if self.memory is not None:
            self.memory.close()

    def _load(self) -> None:
        settings = self.request.settings
        if settings.access.admin and settings.access.token is None and settings.host not in LOOPBACK:
            text = f"whoever reaches {settings.host} may load, unload and map shared memory; --token-file FILE"
            self._event("warning", {"message": text})
        for asked, name in zip(self.request.models, self.models.named, strict=True):
            began_s = clock.now()
            try:
                self.repository.load(name)
            except ServeError as error:
                raise error.__cause__ or error from None
            about = {"model": name, "source": asked.source, "seconds": round(clock.now() - began_s, 3)}
            about["cores"] = str(self.repository.lookup(name).parts.parameters.get("cores", ""))
            self._event("loaded_in", about)
        if self.request.watch is not None:
            if not self.request.watch.is_dir():
                text = f"there is no folder {self.request.watch}: what it is to hold is served once it is there"
                self._event("warning", {"message": text})
            self.repository.refresh()
            self._watcher = Watcher(self.repository, self.request.watch_s)
            self._watcher.start()
        self.repository.starting = False
