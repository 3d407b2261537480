"""``assay models``: model names that can be typed."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import Any

import click

from assay.cli.options import common, output_of
from assay.core.errors import BadInput, NotAvailable


@click.command()
@click.argument("pattern", default="*")
@click.option(
    "--from",
    "files",
    multiple=True,
    type=click.Path(path_type=Path),
    metavar="FILE.py",
    help="Also list what this file registers.",
)
@common
def command(**values: Any) -> int:
    """Names matching PATTERN, with or without the collection's name: timm:convnextv2_*, resnet1*, torchvision:*."""
    output = output_of("models", values)
    from assay.job.user_code import register_file
    from assay.sources.registry import list_models

    for file in values["files"]:
        register_file(file)
    pattern = values["pattern"]
    names = [n for p in _patterns(pattern) for n in list_models(p)]
    if not names and ":" not in pattern and not _collections():
        raise NotAvailable(
            f"no model name matches {pattern!r}: neither timm nor torchvision is installed here",
            remedy="pip install 'assay[timm]', or list what a file of yours registers: assay models --from FILE.py",
        )
    if not names:
        raise BadInput(f"no model name matches {pattern!r}", remedy="assay models 'timm:resnet*'")
    for name in dict.fromkeys(names):
        output.say(name)
    output.result(extra={"models": list(dict.fromkeys(names))})
    return 0


def _patterns(pattern: str) -> tuple[str, ...]:
    """A pattern that names no collection is tried in each that is installed, and among registered names."""
    if ":" in pattern:
        return (pattern,)
    return (*(f"{prefix}:{pattern}" for prefix in _collections()), pattern)


def _collections() -> list[str]:
    from assay.sources.registry import LISTS

    return [prefix for prefix in LISTS if importlib.util.find_spec(prefix) is not None]
