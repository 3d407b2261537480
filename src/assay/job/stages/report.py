"""Stages: write the report, and pack what may be shipped."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

from assay.bundle.contents import DESCRIPTION, BundleContents
from assay.bundle.pack import pack as pack_bundle
from assay.core.engine import Candidate
from assay.core.errors import StorageFailed
from assay.core.verdict import Verdict
from assay.job.context import Context, Data, Exported
from assay.job.opening import open_candidate
from assay.job.reporting import write_reports
from assay.judge.tolerance import tolerance

GOLDEN_ROWS = 4
BUNDLE = "bundle"


def report(ctx: Context, verdict: Verdict, about: dict[str, Any]) -> list[Path]:
    """Every report format, from Records alone."""
    ctx.progress.stage("report")
    written = write_reports(ctx.folder.path, ctx.folder.current(), verdict, about)
    ctx.progress.done(", ".join(p.name for p in written))
    return written


def pack(ctx: Context, chosen: Candidate, exported: Exported, data: Data, verdict: Verdict) -> Path:
    """The chosen engine with everything needed to check it elsewhere: goldens, preprocessing, labels, evidence."""
    ctx.progress.stage("pack")
    rows = list(data.samples(GOLDEN_ROWS))
    feeds = data.feeds(exported.signature.static_batch or 1, len(rows))
    with open_candidate(chosen) as session:
        outputs = [session.run(feed) for feed in feeds]
    contents = BundleContents(
        model=ctx.model.name,
        candidate=chosen,
        signature=exported.signature,
        goldens=tuple(zip(feeds, outputs, strict=True)),
        tolerance=tolerance(chosen.options.precision, exported.depth).to_json(),
        preprocess=None if data.transform is None else data.transform.to_json(),
        labels=ctx.model.labels or (data.reader.labels if data.reader else None),
        records=tuple(ctx.folder.current()),
        verdict=verdict,
        runs_code=ctx.model.runs_code,
        command=ctx.request.command,
        environment=ctx.environment,
    )
    folder = pack_bundle(contents, ctx.folder.path / BUNDLE)
    ctx.progress.done(str(folder))
    return folder


def drop_bundle(ctx: Context) -> None:
    """Remove what an earlier run in this folder packed: it would be shipped, though this run chose nothing."""
    folder = ctx.folder.path / BUNDLE
    if folder.is_symlink() or not (folder / DESCRIPTION).is_file():
        return
    try:
        shutil.rmtree(folder)
    except OSError as error:
        raise StorageFailed(f"cannot remove {folder}, which an earlier run packed: {error.strerror}") from error
    ctx.warn(f"{folder} was removed: an earlier run packed it, and this one chose nothing to ship")
