"""What every Session needs and no library gives: a pool of workers, checks, ownership, closing.

An engine subclasses ``PooledSession`` and writes ``_infer`` (one call on one worker),
``_attest`` and, where something must be freed, ``_release``.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, MutableMapping, Sequence
from dataclasses import dataclass
from queue import SimpleQueue
from types import TracebackType
from typing import Any, Generic, Self, TypeVar

import numpy as np

from assay.core.artifact import Artifact
from assay.core.engine import PRECISIONS, Attestation, Engine, OpenOptions
from assay.core.errors import AssayError, BadInput, EngineFailed, NotAvailable, SignatureMismatch
from assay.core.tensors import DTYPES, Array, Feed, Signature

W = TypeVar("W")
NOT_YET_RUN = "not yet run on hardware"
"""The ``status`` of an engine, or of one of its devices, that only ever met a stand-in."""
_PROBE_SIZES = (32, 64, 224, 16, 8, 2, 1, 48, 240, 3, 12)


class PooledSession(Generic[W]):
    """A Session over a fixed set of workers; a call holds one of them from start to end.

    ``borrows`` says that ``_infer`` returns views of memory the worker will write again:
    they are then copied before the worker is given back.
    """

    borrows = False

    def __init__(self, engine: str, signature: Signature, workers: Sequence[W]) -> None:
        self._engine = engine
        self._signature = signature
        self._output_names = signature.output_names
        self._workers = tuple(workers)
        self._free: SimpleQueue[W | None] = SimpleQueue()
        for worker in workers:
            self._free.put(worker)
        self._closing = threading.Lock()
        self._closed = False

    @property
    def signature(self) -> Signature:
        return self._signature

    @property
    def parallelism(self) -> int:
        return len(self._workers)

    def run(
        self,
        feed: Feed,
        out: MutableMapping[str, Array] | None = None,
        spans: MutableMapping[str, float] | None = None,
    ) -> dict[str, Array]:
        """See ``core.engine.Session.run``."""
        self._signature.check_feed(feed)
        if out:
            check_out(self._signature, out)
        worker = self._take()
        try:
            arrays = self._infer(worker, feed, spans)
            return self._deliver(arrays, out)
        except AssayError:
            raise
        except Exception as error:
            raise failed(self._engine, "run the model", error) from error
        finally:
            self._free.put(worker)

    def attest(self) -> Attestation:
        """See ``core.engine.Attestation``; runs the model, so it takes a worker like any call."""
        worker = self._take()
        try:
            return self._attest(worker)
        except NoSizeFits as error:  # which is no fault of the model's
            return Attestation({}, how="a run on inputs made up for it", untold=error.message)
        except AssayError:
            raise
        except Exception as error:
            raise failed(self._engine, "attest what ran", error) from error
        finally:
            self._free.put(worker)

    def close(self) -> None:
        """Wait for calls in flight, wake callers that wait for a worker, release.  Twice is fine."""
        with self._closing:
            if self._closed:
                return
            self._closed = True
            for _ in self._workers:
                self._free.get()
            self._free.put(None)
            self._release()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _infer(self, worker: W, feed: Feed, spans: MutableMapping[str, float] | None) -> Sequence[Array]:
        """One call; the outputs in the signature's order."""
        raise NotImplementedError

    def _attest(self, worker: W) -> Attestation:
        raise NotImplementedError

    def _release(self) -> None:
        """Free the workers; no call is in flight and none will come."""

    def _take(self) -> W:
        worker = self._free.get()
        if worker is None or self._closed:
            self._free.put(worker)
            raise EngineFailed(f"this {self._engine} session is closed", remedy="open the artifact again")
        return worker

    def _deliver(self, arrays: Sequence[Array], out: MutableMapping[str, Array] | None) -> dict[str, Array]:
        if len(arrays) != len(self._output_names):
            raise EngineFailed(
                f"{self._engine} returned {len(arrays)} outputs; expected {len(self._output_names)}: "
                f"{', '.join(self._output_names)}"
            )
        if not out:
            if self.borrows:
                arrays = [np.array(a) for a in arrays]
            return dict(zip(self._output_names, arrays, strict=True))
        results = {}
        for name, array in zip(self._output_names, arrays, strict=True):
            target = out.get(name)
            if target is None:
                results[name] = np.array(array) if self.borrows else array
                continue
            if target.shape != array.shape:
                raise wrong_buffer(name, target, array.shape)
            np.copyto(target, array)
            results[name] = target
        return results


def wrong_buffer(name: str, buffer: Array, shape: object) -> SignatureMismatch:
    """That the caller's buffer has another shape than the output."""
    return SignatureMismatch(f"the buffer for output {name!r} has shape {buffer.shape}; this feed gives {shape}")


def check_out(signature: Signature, out: MutableMapping[str, Array]) -> None:
    """Names, dtypes, ranks and fixed sizes of the caller's buffers.  Raises SignatureMismatch."""
    for name, array in out.items():
        spec = signature.output(name)
        if not isinstance(array, np.ndarray) or array.dtype != DTYPES[spec.dtype]:
            found = getattr(array, "dtype", type(array).__name__)
            raise SignatureMismatch(f"the buffer for output {name!r} must be {spec.dtype}, found {found}")
        fits = array.ndim == len(spec.shape) and all(
            not isinstance(d, int) or d == n for d, n in zip(spec.shape, array.shape, strict=True)
        )
        if not fits:
            raise SignatureMismatch(f"the buffer for output {name!r} must fit {spec}, found shape {array.shape}")
        if not array.flags.writeable:
            raise SignatureMismatch(f"the buffer for output {name!r} is read-only")


def first_line(error: BaseException) -> str:
    """The first line that says something; C++ libraries put file and line numbers before it."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    telling = [line for line in lines if not line.startswith(("Exception from", "Check '"))]
    if isinstance(error, KeyError):  # whose text is the key alone
        return f"KeyError: {error}"
    return (telling or lines or [type(error).__name__])[0]


class NoSizeFits(EngineFailed):
    """A model with free dims other than the batch took none of the feeds that were made up for it."""


def failed(engine: str, what: str, error: BaseException) -> EngineFailed:
    """A library's exception as ours, with the library's own first line."""
    return EngineFailed(f"{engine} could not {what}: {first_line(error)}")


@dataclass(frozen=True)
class Device:
    kind: str
    index: int = 0


DEVICE_KINDS = ("cpu", "cuda", "gpu", "npu")


def parse_device(text: str) -> Device:
    """``cpu``, ``cuda``, ``cuda:1`` -> kind and index.  Raises BadInput."""
    kind, colon, index = text.partition(":")
    if not kind.isalpha() or (colon and not index.isdecimal()):
        raise BadInput(f"{text!r} is not a device", remedy="write cpu, cuda, cuda:N, gpu:N or npu:N")
    return Device(kind, int(index) if index else 0)


def reason(name: str, known: tuple[str, ...], precision: str, probe: Callable[[], str | None]) -> str | None:
    """The body of every ``unavailable``: a precision nobody has, then whatever ``probe`` says or raises."""
    try:
        if precision not in known:
            known_one = f"{name} has no precision {precision!r}"
            unknown_one = f"there is no precision {precision!r}"
            return f"{known_one if precision in PRECISIONS else unknown_one}; {name} has: {', '.join(known)}"
        return probe()
    except AssayError as error:
        return f"{error}" + (f"; {error.remedy}" if error.remedy else "")
    except Exception as error:  # a broken install can raise anything at all on import
        return f"{name} is installed but does not work here: {first_line(error)}"


def check_open(engine: Engine, artifact: Artifact, options: OpenOptions, precision: str | None = None) -> None:
    """What every ``open`` checks before it touches the library.

    ``precision`` is what to ask ``unavailable`` about, where that differs from the options' own.
    Raises BadInput for a format or a number that cannot be, NotAvailable for what is not here.
    """
    check_format(engine.name, "open", engine.opens, artifact)
    check_options(engine, options, precision)


def check_options(engine: Engine, options: OpenOptions, precision: str | None = None) -> None:
    """The part of ``check_open`` that needs no artifact."""
    for what in ("threads", "streams", "instances"):
        value = getattr(options, what)
        if value is not None and value < 1:
            raise BadInput(f"{what} must be at least 1, not {value}")
    if options.buckets and not getattr(engine, "has_buckets", False):
        raise NotAvailable(f"{engine.name} has no static batch buckets", remedy="open it with a free batch")
    if options.buckets and (min(options.buckets) < 1 or sorted(set(options.buckets)) != list(options.buckets)):
        raise BadInput(f"{options.buckets} are no batch sizes in rising order", remedy="--buckets 1,4,8")
    refuse_missing_index(engine, options.device)
    why = engine.unavailable(options.device, precision or options.precision)
    if why is not None:
        raise NotAvailable(why)


def devices_of(engine: Engine) -> tuple[str, ...]:
    """What the engine's library sees here, such as ``("cpu", "cuda:0")``; empty where it does not tell or is not here:
    why is for ``unavailable`` to say."""
    listed = getattr(engine, "devices", None)
    try:
        found: tuple[str, ...] = listed() if listed is not None else ()
    except Exception:  # a broken install can raise anything at all on import
        return ()
    return found


def refuse_missing_index(engine: Engine, device: str) -> None:
    """A device that is one too many of a kind that is here.  Raises BadInput naming those there are.

    A kind that is not here at all is for ``unavailable`` to explain.
    """
    where = parse_device(device)
    if where.kind == "cpu":
        there: tuple[str, ...] = ("cpu",)
    elif ":" not in device:
        return
    else:
        there = tuple(d for d in devices_of(engine) if parse_device(d).kind == where.kind)
    if there and where.index not in {parse_device(d).index for d in there}:
        raise BadInput(
            f"there is no {device}: {engine.name} sees {', '.join(there)} here", remedy=f"--device {there[0]}"
        )


def check_format(engine: str, verb: str, formats: tuple[str, ...], artifact: Artifact) -> None:
    """Raises BadInput for a format this engine does not take, or a file that is not there."""
    if artifact.format not in formats:
        raise BadInput(f"{engine} cannot {verb} {artifact.format!r} files; it takes: {', '.join(formats)}")
    for path in (artifact.path, *artifact.companions):
        if artifact.module is None and not path.is_file():
            raise BadInput(f"there is no file {path}")


def refuse_streams(engine: str, options: OpenOptions) -> None:
    if options.streams is not None:
        raise BadInput(f"{engine} has no streams", remedy="set instances instead")


def at_batch(signature: Signature, batch: int | None) -> Signature:
    """``signature`` with this batch size; as it is for None.  Raises BadInput for a model that is fixed to another."""
    if batch is None:
        return signature
    if signature.static_batch not in (None, batch):
        raise BadInput(
            f"the model has the batch size {signature.static_batch}; batch {batch} was asked for",
            remedy=f"assay export --batch {batch}",
        )
    return signature.with_batch(batch)


def probe_feeds(signature: Signature) -> Iterator[dict[str, Array]]:
    """Feeds to try in turn where a run is needed and there is no sample: ones, batch 1.

    Free dims other than the batch are given one size after another, since only the model
    knows which it can take.  Integers are zeros (a valid index everywhere), strings empty.
    """
    batch = {s.batch for s in signature.inputs}
    free = [d for d in signature.free_dims() if d not in batch]
    for size in _PROBE_SIZES if free else (1,):
        sizes: dict[Any, int] = {**dict.fromkeys(batch, 1), **dict.fromkeys(free, size)}
        feed = {}
        for spec in signature.inputs:
            shape = tuple(d if isinstance(d, int) else sizes[d] for d in spec.shape)
            if spec.dtype == "string":
                feed[spec.name] = np.full(shape, b"", dtype=object)
            elif spec.dtype.startswith(("int", "uint", "bool")):
                feed[spec.name] = np.zeros(shape, DTYPES[spec.dtype])
            else:
                feed[spec.name] = np.ones(shape, DTYPES[spec.dtype])
        yield feed


def try_feeds(signature: Signature, run: Callable[[dict[str, Array]], Any]) -> Any:
    """``run`` on the first probe feed the model takes.

    Raises what it raised where there is one feed to try, NoSizeFits (from the last one's) where there are more.
    """
    raised: list[Exception] = []
    for feed in probe_feeds(signature):
        try:
            return run(feed)
        except Exception as error:  # the next size may fit
            raised.append(error)
    if len(raised) == 1:
        raise raised[0]
    sizes = ", ".join(map(str, _PROBE_SIZES))
    raise NoSizeFits(f"the model's free dims take none of the sizes {sizes}: {first_line(raised[-1])}") from raised[-1]
