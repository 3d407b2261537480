"""``assay verify``: is CANDIDATE the same model as REF?"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from assay.cli.options import SourceArguments, asked_precision, common, model_options, output_of, pair_options, sizes
from assay.core.compare import Measures


@click.command()
@pair_options
@click.option("--data", metavar="DATA", help="Compare on these samples; without: seeded inputs from the signature.")
@click.option("--batch", "--batches", "batch", default="1,2,8", show_default=True, metavar="N,…")
@click.option("--samples", type=click.IntRange(min=1), default=32, show_default=True)
@click.option(
    "--atol", metavar="X", help='Judge by |c-r| <= atol + rtol*|r| instead; also per output: "1e-5 out0:1e-4".'
)
@click.option("--rtol", metavar="X")
@click.option("--no-truth", is_flag=True, help="Leave the float64 run of REF out; the limit is then a looser bound.")
@click.option("--no-self-check", is_flag=True, help="Leave the runs of CANDIDATE against itself out.")
@model_options
@common
def command(**values: Any) -> int:
    """Compare CANDIDATE with REF output by output, by name, at every batch size."""
    output = output_of("verify", values)
    from assay.cli.progress import progress_for
    from assay.job.compare_two import Pair, compare_two

    precision = asked_precision(values["precision"], "verify")
    pair = Pair(
        reference=values["ref"],
        candidate=values["candidate"],
        engine=values["engine_name"],
        precision=precision,
        device=values["device"],
        data=values["data"],
        batches=sizes(values["batch"]),
        samples=values["samples"],
        atol=values["atol"],
        rtol=values["rtol"],
        truth=not values["no_truth"],
        self_consistency=not values["no_self_check"],
    )
    found = compare_two(pair, SourceArguments(values).source(Path()), progress_for(output))
    for batch, outputs in found.outputs.items():
        for name, measures in outputs.items():
            output.say(f"batch {batch}  {_line(name, measures)}")
    for finding in found.self_check.findings if found.self_check else ():
        output.say(f"self-check  {finding.name}: {finding.state.replace('_', ' ')}, {finding.text}")
    for text in found.warnings:
        output.warn(text)
    output.say(f"{found.judged}: {found.text}")
    if found.detectable is not None:
        output.say(f"detection limit: a relative rms error above {found.detectable:.2g} would not have passed")
    for text in found.not_checked:
        output.say(f"not checked: {text}")
    output.result(records=[found.record], verdict=found.verdict)
    return found.verdict.exit_code


def _line(name: str, m: Measures) -> str:
    text = (
        f"{name}: max abs {m.max_abs:.3g}, mean abs {m.mean_abs:.3g}, p99 abs {m.abs_quantiles.get('p99', 0):.3g}, "
        f"max rel {m.max_rel:.3g}, cosine {m.cosine:.9f}, SNR {m.snr_db:.1f} dB"
    )
    if m.top1_agreement is not None:
        text += f", top-1 agrees on {m.top1_agreement:.2%} of {m.rows}"
    if m.kl_mean is not None:
        text += f", KL {m.kl_mean:.2g}"
    if m.psnr_db is not None:
        text += f", PSNR {m.psnr_db:.1f} dB"
    return text if m.dice is None else f"{text}, Dice {m.dice:.4f}"
