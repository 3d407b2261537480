"""Repository: which models are served, in which versions, and how one takes another's place.

A version goes live beside the old one: it is opened, warmed up and proved by the loader first; then one
assignment makes it the served one, and the old one is drained and closed on a thread of its own.  A
request that looked the old one up just before is refused by its queue and submitted again, to the new one,
so nothing is lost.  A version that cannot be opened leaves the old one as it was.
"""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Protocol

from assay.core import clock
from assay.core.units import Seconds
from assay.serve.decoding import DecodePool
from assay.serve.errors import INVALID, NOT_FOUND, UNAVAILABLE, ServeError, serve_error
from assay.serve.inference import InferRequest, OnDone
from assay.serve.models import ModelParts, Retired, ServedModel

Event = Callable[[str, Mapping[str, Any]], None]
"""(name of the event, what is to be said of it): the rim logs it."""
ATTEMPTS = 100
"""Swaps one request may be overtaken by."""


class Loader(Protocol):
    """Where models come from.  ``open`` returns a version that is warmed up and proved, or raises AssayError."""

    def names(self) -> Iterable[str]: ...

    def versions(self, name: str) -> Mapping[str, str]:
        """Version -> key; the key changes when the files do.  Raises AssayError for what is not there."""
        ...

    def open(self, name: str, version: str) -> ModelParts: ...


@dataclass(frozen=True)
class Entry:
    """One model.  ``live`` are its served versions, the newest last; ``reason`` says why the last load failed.

    ``state`` is READY, UNAVAILABLE (never loaded), UNLOADED (on demand, and not loaded again unasked) or REMOVED (its
    files are gone; it is loaded again when they are back).
    """

    live: dict[str, ServedModel] = field(default_factory=dict)
    reason: str = ""
    state: str = "UNAVAILABLE"

    @property
    def newest(self) -> ServedModel | None:
        return next(reversed(self.live.values()), None)


GONE = ("UNLOADED", "REMOVED")


def _silent(event: str, about: Mapping[str, Any]) -> None:
    pass


class Repository:
    """``lookup`` and ``submit`` take no lock; loading takes one per model."""

    def __init__(self, loader: Loader, pool: DecodePool | None = None, event: Event = _silent) -> None:
        self._loader = loader
        self._pool = pool
        self._event = event
        self._entries: dict[str, Entry] = {}
        self._lock = threading.Lock()
        self._loading: dict[str, threading.Lock] = {}
        self._draining: list[threading.Thread] = []
        self._unfinished = 0
        """Versions that were closed before all they had taken was answered."""
        self._refused: dict[str, tuple[Mapping[str, str], int]] = {}
        self.drain_s: Seconds = 30.0
        self.before_close: list[Callable[[], object]] = []
        """Called when nothing more comes in, and what is served still answers: a canary ends here."""
        self.starting = False
        """Not every model that was asked for is loaded yet."""
        self.stopping = False
        """Not ready any more, but what still arrives is served."""
        self.closing = False

    # What front ends ask

    @property
    def ready(self) -> bool:
        """Every model that was asked for is served, and the server is not going down."""
        entries = self._entries
        if self.starting or self.stopping or self.closing:
            return False
        return bool(entries) and all(e.live for e in entries.values() if e.state not in GONE)

    def lookup(self, name: str, version: str = "") -> ServedModel:
        """The served version.  Raises ServeError (not found)."""
        entry = self._entries.get(name)
        if entry is None or (not entry.live and entry.state == "UNAVAILABLE" and not entry.reason):
            raise ServeError(NOT_FOUND, f"Request for unknown model: '{name}' is not found")
        if version:
            _check_version(version)
            found = entry.live.get(version)
            if found is None:
                raise ServeError(NOT_FOUND, f"Request for unknown model: '{name}' version {version} is not found")
            return found
        newest = entry.newest
        if newest is None:
            why = f" ({entry.reason})" if entry.reason else ""
            raise ServeError(NOT_FOUND, f"Request for unknown model: '{name}' has no available versions{why}")
        return newest

    def is_ready(self, name: str, version: str = "") -> bool:
        """Whether that version is served.  Raises ServeError (not found) for a model nobody heard of."""
        return self.lookup(name, version).ready

    def submit(self, request: InferRequest, on_done: OnDone) -> None:
        """Queue ``request`` for its model.  Raises ServeError; then ``on_done`` is not called for it."""
        for _ in range(ATTEMPTS):
            if self.closing:
                raise ServeError(UNAVAILABLE, "the server is shutting down", reason="closed")
            served = self.lookup(request.model, request.version)
            try:
                served.submit(request, on_done)
            except Retired:
                continue
            return
        raise ServeError(UNAVAILABLE, f"model '{request.model}' is being replaced", retry_after_s=1.0)

    def metadata(self, name: str, version: str = "") -> dict[str, Any]:
        served = self.lookup(name, version)
        return served.metadata((version,) if version else tuple(self._entries[name].live))

    def statistics(self, name: str = "", version: str = "") -> dict[str, Any]:
        """``{"model_stats": [...]}`` of one version, of all of a model, or of everything."""
        if name:
            served = self.lookup(name, version)
            chosen: Sequence[ServedModel] = (served,) if version else tuple(self._entries[name].live.values())
        else:
            chosen = self.served()
        return {"model_stats": [s.statistics.to_json() for s in chosen]}

    def served(self) -> list[ServedModel]:
        """Every live version of every model, by name."""
        return [s for _, entry in sorted(self._entries.items()) for s in entry.live.values()]

    def index(self, *, ready: bool = False) -> list[dict[str, str]]:
        """The repository index; ``ready``: served ones only."""
        found: list[dict[str, str]] = []
        entries = self._entries
        for name in sorted({*entries, *self._loader.names()}):
            entry = entries.get(name, Entry())
            why = {"reason": entry.reason} if entry.reason else {}
            if entry.live:
                found += [{"name": name, "version": v, "state": "READY", **why} for v in entry.live]
            elif not ready:
                known = name in entries and (entry.reason or entry.state in GONE)
                reason = entry.reason or ("unloaded" if entry.state in GONE else "")
                found.append({"name": name, "state": "UNAVAILABLE", "reason": reason} if known else {"name": name})
        return found

    # Loading

    def load(self, name: str, *, again: bool = True) -> None:
        """Open what the loader has of ``name`` beside what is served, then swap.  Blocks until it is live.

        ``again`` False leaves versions whose key did not change as they are.  Raises ServeError, and the
        old versions go on.
        """
        with self._lock_of(name):
            if self.closing:
                raise ServeError(UNAVAILABLE, "the server is shutting down")
            try:
                self._load(name, again)
            except Exception as error:
                found = serve_error(error)
                entry = self._entries.get(name, Entry())
                if entry.live or name in self._loader.names():
                    self._put(name, replace(entry, reason=found.message))
                self._event("refused", {"model": name, "reason": found.message, "still_served": list(entry.live)})
                kind = found.kind if found.kind in (NOT_FOUND, UNAVAILABLE) else INVALID
                raise ServeError(kind, f"failed to load '{name}', {found.message}") from error

    def unload(self, name: str) -> None:
        """Serve ``name`` no more; what it has taken is finished.  Waits for a load of it that is under way.

        Raises ServeError for an unknown name.
        """
        if name not in self._entries:
            raise ServeError(NOT_FOUND, f"failed to unload '{name}', unknown model")
        self._take_down(name, "UNLOADED")
        self._event("unloaded", {"model": name})

    def refresh(self) -> None:
        """Load what is new or changed, unload what is gone.  Failures are told as events, not raised."""
        there = set(self._loader.names())
        for name in sorted(there | set(self._entries)):
            entry = self._entries.get(name)
            if name not in there:
                if entry is not None and entry.state != "REMOVED":
                    self._take_down(name, "REMOVED")
                    self._refused.pop(name, None)
                    if entry.live:
                        self._event("unloaded", {"model": name})
                continue
            if entry is not None and entry.state == "UNLOADED":
                continue
            try:
                self._follow(name, entry)
            except Exception as error:
                self._event("refused", {"model": name, "reason": serve_error(error).message})

    def _follow(self, name: str, entry: Entry | None) -> None:
        """Load ``name`` if its files changed.  What was refused is tried again ever more rarely: it may have been
        in the middle of being copied, or it may stay broken."""
        keys = dict(self._loader.versions(name))
        if entry is not None and {v: s.parts.key for v, s in entry.live.items()} == keys:
            return
        refused, looks = self._refused.get(name, ({}, 0))
        if refused == keys:
            self._refused[name] = keys, looks + 1
            if (looks & (looks + 1)) != 0:
                return
        else:
            self._refused[name] = keys, 0
        with contextlib.suppress(ServeError):  # told as an event already
            self.load(name, again=False)
            del self._refused[name]

    def close(self) -> bool:
        """Take nothing more, finish everything within ``drain_s``.  Whether everything was finished."""
        for end in self.before_close:
            end()
        with self._lock:
            self.closing = True
            self._unfinished = 0
        self._retire(self.served())
        until_s = clock.now() + self.drain_s + 1.0
        for thread in self._draining:
            thread.join(max(0.0, until_s - clock.now()))
        done = not self._unfinished and not any(thread.is_alive() for thread in self._draining)
        return (self._pool is None or self._pool.close()) and done

    def _load(self, name: str, again: bool) -> None:
        old = dict(self._entries.get(name, Entry()).live)
        versions = self._loader.versions(name)
        if not versions:
            raise ServeError(NOT_FOUND, "it has no versions")
        live: dict[str, ServedModel] = {}
        opened: list[ServedModel] = []
        try:
            for version in sorted(versions, key=int):
                kept = old.get(version)
                if kept is not None and not again and kept.parts.key == versions[version]:
                    live[version] = kept
                    continue
                made = ServedModel(self._loader.open(name, version), self._pool)
                if kept is not None:
                    made.statistics = kept.statistics
                opened.append(made)
                live[version] = made
            with self._lock:
                if self.closing:  # nobody would close what went live now
                    raise ServeError(UNAVAILABLE, "the server is shutting down")
                self._entries = {**self._entries, name: Entry(live, "", "READY")}
        except BaseException:
            for made in opened:
                made.close(0.0)
            raise
        self._retire([s for v, s in old.items() if live.get(v) is not s])
        self._event("loaded", {"model": name, "versions": list(live)})

    def _lock_of(self, name: str) -> threading.Lock:
        """Held while ``name`` is loaded or taken down."""
        with self._lock:
            return self._loading.setdefault(name, threading.Lock())

    def _take_down(self, name: str, state: str) -> None:
        with self._lock_of(name):
            gone = self._entries[name].live
            self._put(name, Entry(state=state))
        self._retire(gone.values())

    def _put(self, name: str, entry: Entry) -> None:
        with self._lock:
            self._entries = {**self._entries, name: entry}

    def _retire(self, gone: Iterable[ServedModel]) -> None:
        with self._lock:
            self._draining = [t for t in self._draining if t.is_alive()]
            for served in gone:
                thread = threading.Thread(
                    target=self._finish, args=(served, self.drain_s), name=f"drain-{served.name}", daemon=True
                )
                self._draining.append(thread)
                thread.start()

    def _finish(self, served: ServedModel, within_s: Seconds) -> None:
        """On a thread of its own."""
        try:
            finished = served.close(within_s)
        except Exception as error:  # an engine that cannot even be closed
            finished = False
            self._event("error", {"kind": type(error).__name__, "message": f"closing {served.name}: {error}"[:500]})
        if not finished:
            with self._lock:
                self._unfinished += 1


def _check_version(version: str) -> None:
    if not version.isascii() or not version.isdigit():
        raise ServeError(
            INVALID, f"failed to get model version from specified version string '{version}' (a positive number)"
        )
