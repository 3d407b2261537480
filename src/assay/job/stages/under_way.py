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
from assay.job.context import Context, Data
from assay.job.evaluate.through import slides
from assay.job.last_words import Ended, Places, Word
from assay.job.stages.in_flight import again
from assay.job.trial import Opening

TRIAL_S: Seconds = 300.0
"""Longer than any engine takes to open and run a few batches; what takes longer hangs."""
SAMPLES_S: Seconds = 600.0
"""The same of whole batches of an evaluation."""
MOST_CRASHES = 3


@contextlib.contextmanager
def under_way(ctx: Context, stage: str, candidates: Sequence[Candidate]) -> Iterator[Word]:
    """``stage`` runs ``candidates`` until the block is left.  A process that dies in it, or is killed, leaves that
    behind for the next run, and what else it told the word."""
    what = f"{stage.partition('-')[0]} {' against '.join(dict.fromkeys(c.label for c in candidates))}"
    word = ctx.folder.begin(stage, what, [c.digest for c in candidates])
    try:
        yield word
    finally:
        word.end()


def hopeless(ctx: Context, candidate: Candidate) -> str | None:
    """Why ``candidate`` is not compared again: it took too many runs along.  Without the run's reference there is
    nothing to compare with."""
    ended = [e for e in ctx.folder.ended.values() if candidate.digest in e.candidates]
    if not ended or candidate.label == ctx.reference:
        return None
    return _given_up(max(ended, key=lambda e: e.crashes))


def fatal(ctx: Context, candidate: Candidate, feeds: Mapping[int, Sequence[Feed]]) -> str | None:
    """Why ``candidate`` must not be run in this process: it was running when a run ended without a word, and in a child
    of its own it dies or hangs too.  None for all others."""
    if not any(candidate.digest in ended.candidates for ended in ctx.folder.ended.values()):
        return None
    if candidate.digest not in ctx.fatal:
        every = [feed for of_size in feeds.values() for feed in of_size]
        why = _dies(ctx, candidate, "try_out", {"feeds": every}, TRIAL_S)
        ctx.fatal[candidate.digest] = why and f"it ran when an earlier run ended, and tried apart, {why}"
    return ctx.fatal[candidate.digest]


def fatal_on(ctx: Context, stage: str, candidate: Candidate, data: Data) -> str | None:
    """Why ``candidate`` must not be evaluated in this process: a run ended without a word while it was, and in a child
    of its own it dies or hangs on the samples that were in inference; or too many runs crashed."""
    ended = ctx.folder.ended_in(stage)
    if (
        ended is None
        or candidate.digest not in ended.candidates
        or data.not_evaluated
        or data.task is None
        or data.reader is None
    ):
        return None
    slide = slides(data.task, data.signature)
    for batches in again(data, ended.at):
        why = _dies(ctx, candidate, "try_batches", {"batches": batches, "slide": slide}, SAMPLES_S)
        if why is not None:
            where, on = (f" with {_named(ended.at)} in inference", " on them") if ended.at else ("", "")
            return f"it was being evaluated when an earlier run ended{where}, and tried apart{on}, {why}"
    return _given_up(ended)


def _given_up(ended: Ended) -> str | None:
    if ended.crashes < MOST_CRASHES:
        return None
    fault = f" ({ended.fault})" if ended.fault else ""
    return (
        f"{ended.crashes} runs ended without a word while it ran{fault}; remove stages/*.begun of the run's folder to "
        "try it again"
    )


def _named(at: Sequence[Places]) -> str:
    """Counted from 1."""
    return "samples " + ", ".join(
        f"{first + 1} to {last + 1}" if last > first else f"{first + 1}" for first, last in at
    )


def _dies(ctx: Context, candidate: Candidate, how: str, given: Mapping[str, Any], limit_s: Seconds) -> str | None:
    """How the candidate ends a child that runs ``how`` of ``assay.job.trial`` with it; None where it does not."""
    alike = portable(ctx, candidate)
    if alike is None:
        return None
    try:
        child.run(f"assay.job.trial:{how}", {**alike, **given}, child.Limits(timeout_s=limit_s))
    except ChildFailed as error:
        return error.message
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
