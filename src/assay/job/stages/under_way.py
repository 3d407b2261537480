"""Engines that run in this process: word is left while they do, and one that took a run along is tried apart first."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

from assay.core import child
from assay.core.engine import Candidate
from assay.core.errors import AssayError, ChildFailed
from assay.core.tensors import Feed
from assay.core.units import Seconds
from assay.job.context import Context
from assay.job.trial import Opening

TRIAL_S: Seconds = 300.0
"""Longer than any engine takes to open and run a few batches; what takes longer hangs."""
MOST_DEATHS = 3


@contextlib.contextmanager
def under_way(ctx: Context, stage: str, candidates: Sequence[Candidate]) -> Iterator[None]:
    """``stage`` runs ``candidates`` until the block is left.  A process that dies in it, or is killed, leaves that
    behind for the next run."""
    what = f"{stage.partition('-')[0]} {' against '.join(dict.fromkeys(c.label for c in candidates))}"
    ctx.folder.begin(stage, what, [c.digest for c in candidates])
    try:
        yield
    finally:
        ctx.folder.end(stage)


def hopeless(ctx: Context, candidate: Candidate) -> str | None:
    """Why ``candidate`` is not run again: it took too many runs along.  Without the run's reference there is no run."""
    times = ctx.folder.deaths.get(candidate.digest, 0)
    if times < MOST_DEATHS or candidate.label == ctx.reference:
        return None
    return f"{times} runs ended without a word while it ran; remove stages/*.begun of the run's folder to try it again"


def fatal(ctx: Context, candidate: Candidate, feeds: Mapping[int, Sequence[Feed]]) -> str | None:
    """Why ``candidate`` must not be run in this process: it was running when a run ended without a word, and in a child
    of its own it dies or hangs too.  None for all others."""
    if candidate.digest not in ctx.folder.deaths:
        return None
    if candidate.digest not in ctx.fatal:
        ctx.fatal[candidate.digest] = _tried_apart(ctx, candidate, feeds)
    return ctx.fatal[candidate.digest]


def _tried_apart(ctx: Context, candidate: Candidate, feeds: Mapping[int, Sequence[Feed]]) -> str | None:
    given = portable(ctx, candidate)
    if given is None:
        return None
    arguments = {**given, "feeds": [feed for of_size in feeds.values() for feed in of_size]}
    try:
        child.run("assay.job.trial:try_out", arguments, child.Limits(timeout_s=TRIAL_S))
    except ChildFailed as error:
        return f"it ran when an earlier run ended, and tried apart, {error.message}"
    except AssayError:
        return None  # it fails in good order, which the stage will say
    return None


def portable(ctx: Context, candidate: Candidate) -> dict[str, Any] | None:
    """The candidate for a child process, and how it gets the module again (``candidate`` and ``opening``); None for a
    module that exists in this process alone."""
    if candidate.artifact.module is None:
        return {"candidate": candidate, "opening": None}
    if ctx.objects.module is not None:
        return None
    opening = Opening(ctx.request.model, ctx.request.source_options(ctx.folder.artifacts))
    return {"candidate": replace(candidate, artifact=replace(candidate.artifact, module=None)), "opening": opening}
