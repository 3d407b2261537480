"""A pool of Ray actors that each hold one opened model, fed by Ray Data as it streams.

Nothing of our own schedules, restarts or balances: Ray Data keeps as many actors as the work needs and the
cluster has room for, hands them rows as they are read, holds reading back when they do not keep up, and does the
rows of an actor or node that died again on another.  What comes back is small and is written by the process that asked.
"""

from __future__ import annotations

import contextlib
import logging
import pickle
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from assay.core.artifact import Artifact
from assay.core.engine import Candidate
from assay.core.errors import AssayError, BadInput, EngineFailed, NotAvailable
from assay.scale.ray_cluster import join, refuse_unreachable

BLOCK_BYTES = 16 << 20
"""How much a reading task hands on at a time: a few batches of encoded pictures."""


@dataclass(frozen=True)
class Cluster:
    """``address`` None is the cluster that is running here or that RAY_ADDRESS names, else a new one on this machine.

    Each actor has ``cpus_per_actor`` cores, which its engine's threads equal; there are at least ``least`` actors
    and at most ``most`` (None: as many as the cluster has cores for).
    """

    address: str | None = None
    cpus_per_actor: int = 1
    least: int = 1
    most: int | None = None

    def __post_init__(self) -> None:
        if self.cpus_per_actor < 1 or self.least < 1 or (self.most is not None and self.most < self.least):
            raise BadInput(f"a pool of Ray actors needs one core and one actor at least: {self}")


@contextlib.contextmanager
def connected(cluster: Cluster) -> Iterator[None]:
    """Connected for as long as the block lasts; a connection that was there before is used and left as it was."""
    ray = _ray()
    before = ray.is_initialized()
    if not before:
        refuse_unreachable(cluster.address)
        join(cluster.address)
    context = ray.data.DataContext.get_current()
    kept = (context.enable_progress_bars, context.target_max_block_size)
    context.enable_progress_bars, context.target_max_block_size = False, BLOCK_BYTES
    loggers = [logging.getLogger(name) for name in ("ray", "ray.data")]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.ERROR)
    try:
        with contextlib.redirect_stdout(sys.stderr):  # Ray prints what happens to its workers
            yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)
        context.enable_progress_bars, context.target_max_block_size = kept
        if not before:
            ray.shutdown()


def place_of() -> dict[str, Any]:
    """The cluster in words of a Record's conditions."""
    ray = _ray()
    nodes = [node for node in ray.nodes() if node["Alive"]]
    return {"ray_nodes": len(nodes), "ray_cpus": int(ray.cluster_resources().get("CPU", 0))}


def on_actors(rows: Any, make: Callable[[], Callable[[Any], Any]], cluster: Cluster) -> Iterator[Any]:
    """What ``make()(object)`` gives for the pickled object in column ``task`` of every row of a Ray dataset, in any
    order.  ``make`` runs once in each actor.

    Raises AssayError as an actor raised it, and EngineFailed where Ray itself gave up.
    """
    ray = _ray()
    total = int(ray.cluster_resources().get("CPU", 0))
    most = cluster.most or max(cluster.least, total // cluster.cpus_per_actor)
    if total < cluster.cpus_per_actor * cluster.least:
        raise NotAvailable(
            f"the Ray cluster has {total} cores, {cluster.least} actors of {cluster.cpus_per_actor} were asked for",
            remedy=f"--ray-cpus {max(1, total // cluster.least)}",
        )
    done = rows.map_batches(
        _Actor,
        fn_constructor_args=(ray.cloudpickle.dumps(make),),
        batch_size=1,
        num_cpus=cluster.cpus_per_actor,
        compute=ray.data.ActorPoolStrategy(min_size=cluster.least, max_size=most),
    )
    try:
        for row in done.iter_rows():
            yield pickle.loads(row["result"])  # noqa: S301 - made by our own actors
    except ray.exceptions.RayError as error:
        cause = _cause(error)
        if cause is not None:
            raise cause from error
        raise EngineFailed(f"Ray gave up: {str(error).strip().splitlines()[-1]}") from error


class _Actor:
    """Lives in a process of its own on some node."""

    def __init__(self, make: bytes) -> None:
        sys.setswitchinterval(0.0001)
        self._work = pickle.loads(make)()  # noqa: S301 - made by the process that asked

    def __call__(self, batch: Mapping[str, Any]) -> Mapping[str, Any]:
        return {"result": [pickle.dumps(self._work(pickle.loads(task))) for task in batch["task"]]}  # noqa: S301


class Shipped:
    """A candidate that can be opened on another machine: its files travel with it.

    Raises NotAvailable for a PyTorch module, which lives in this process alone.
    """

    def __init__(self, candidate: Candidate, cluster: Cluster) -> None:
        artifact = candidate.artifact
        if artifact.module is not None:
            raise NotAvailable(
                "a PyTorch module cannot be sent to other machines; an exported file can",
                remedy="--engine onnxruntime, or --engine openvino",
            )
        options = replace(candidate.options, instances=1, streams=None, threads=cluster.cpus_per_actor)
        self.candidate = replace(candidate, options=options)
        files = (artifact.path, *artifact.companions)
        root = artifact.path.parent
        self._files = _ray().put({_below(root, path): path.read_bytes() for path in files})

    @contextlib.contextmanager
    def unpacked(self) -> Iterator[Candidate]:
        """In an actor: the files in a folder for as long as the block lasts, which is to open them.

        An actor is ended by a signal, so nothing would be left to remove the folder later.
        """
        with tempfile.TemporaryDirectory(prefix="assay-ray-", ignore_cleanup_errors=True) as name:
            folder = Path(name)
            for below, content in _ray().get(self._files).items():
                (folder / below).parent.mkdir(parents=True, exist_ok=True)
                (folder / below).write_bytes(content)
            artifact: Artifact = self.candidate.artifact
            root = artifact.path.parent
            companions = tuple(folder / _below(root, path) for path in artifact.companions)
            placed = replace(artifact, path=folder / artifact.path.name, companions=companions)
            yield replace(self.candidate, artifact=placed)


def by_value(function: Callable[..., Any]) -> None:
    """Let a user's function travel with its module: other machines do not have the file it comes from."""
    module = sys.modules.get(getattr(function, "__module__", ""))
    if module is not None and module.__name__.partition(".")[0] != "assay":
        _ray().cloudpickle.register_pickle_by_value(module)


def _below(root: Path, path: Path) -> str:
    return path.relative_to(root).as_posix() if path.is_relative_to(root) else path.name


def _cause(error: BaseException) -> AssayError | None:
    seen: BaseException | None = error
    while seen is not None:
        if isinstance(seen, AssayError):
            return seen
        seen = getattr(seen, "cause", None) or seen.__cause__
    return None


def _ray() -> Any:
    try:
        import ray
        import ray.data
    except ImportError as error:
        raise NotAvailable(f"ray is not installed ({error})", remedy="pip install 'assay[ray]'") from error
    return ray
