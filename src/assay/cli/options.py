"""Options that several verbs share, and how their texts become types."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from assay.cli.output import Output, is_foreign
from assay.core.errors import BadInput, UnknownName

if TYPE_CHECKING:  # both need numpy, whose import would double the time that ``assay runs`` takes
    from assay.core.shapes import ShapeSpec

F = TypeVar("F", bound=Callable[..., Any])


def common(function: F) -> F:
    """``--json [FILE]``, ``--quiet``, ``--debug``: on every verb."""
    options = [
        click.option(
            "--json",
            "json_to",
            is_flag=False,
            flag_value="-",
            default=None,
            metavar="[FILE]",
            help="Machine-readable result to FILE, or alone on stdout.",
            callback=_json_file,
        ),
        click.option("--quiet", is_flag=True, help="Only the result."),
        click.option("--debug", is_flag=True, help="Show Python tracebacks."),
    ]
    return _apply(function, options)


def _json_file(ctx: click.Context, option: click.Parameter, value: str | None) -> str | None:
    """Raises BadInput, before a long run, for what cannot become a result and for a file that one must not replace."""
    if value is None or value == "-" or ctx.resilient_parsing:
        return value
    path = Path(value)
    if path.is_dir() or any(folder.is_file() for folder in path.parents):
        raise BadInput(f"--json {value}: there can be no such file", remedy="--json=result.json")
    if is_foreign(path):
        raise BadInput(
            f"--json {value}: this file is there already and holds no result of assay; it is left alone",
            remedy="--json=NEW.json, or --json as the last word for stdout",
        )
    return value


def model_options(function: F) -> F:
    """How a MODEL gets its weights and shapes."""
    options = [
        click.option("--weights", metavar="FILE|URL", help="Weights for a MODEL that is code."),
        click.option("--arch", metavar="MODEL", help="The architecture a checkpoint FILE is for."),
        click.option("--md5", metavar="HEX", help="Expected digest of the weights."),
        click.option("--sha256", metavar="HEX", help="Expected digest of the weights, or of a bundle's manifest."),
        click.option("--trust", is_flag=True, help="Open files that run code (pickles, downloaded code)."),
        click.option("--no-strict", is_flag=True, help="Accept missing and unexpected weights."),
        click.option(
            "--shape",
            "shapes",
            multiple=True,
            metavar="SHAPE",
            help="One per input: x:1x3x224x224, tokens:batchx12:int64, …",
        ),
        click.option("--range", "ranges", multiple=True, metavar="NAME:LOW..HIGH", help="Values of drawn inputs."),
        click.option("--seed", type=int, default=0, show_default=True),
    ]
    return _apply(function, options)


def pair_options(function: F) -> F:
    """REF and CANDIDATE, and what CANDIDATE runs on: for the verbs that compare two models."""
    options = [
        click.argument("ref"),
        click.argument("candidate"),
        click.option("--engine", "engine_name", help="Run CANDIDATE on this engine; default: the one its file is for."),
    ]
    return _apply(opening_options(function), options)


def opening_options(function: F) -> F:
    """How a MODEL is opened.  None is what nobody typed: a default could not be told from the same word typed, and a
    bundle refuses what it was not proved with."""
    options = [
        click.option("--precision", help="[default: fp32; of a bundle: as it was proved]"),
        click.option("--device", help="[default: cpu; of a bundle: as it was proved]"),
    ]
    return _apply(function, options)


def export_options(function: F) -> F:
    """How ONNX is made."""
    options = [
        click.option("--exporter", default="auto", show_default=True, metavar="auto|dynamo|torchscript"),
        click.option("--opset", type=int, help="The opset to reach; not reaching it is an error."),
        click.option("--input-names", metavar="A,B", help="Such as INPUT__0."),
        click.option("--output-names", metavar="A,B", help="Such as OUTPUT__0."),
        click.option("--no-params", is_flag=True, help="Leave the weights out of the file."),
        click.option("--no-constant-folding", is_flag=True),
        click.option(
            "--simplify",
            "passes",
            default="onnxslim",
            show_default=True,
            metavar="PASS,…|none",
            help="Simplification passes, each checked and rolled back if it changes outputs.",
        ),
        click.option(
            "--custom-op", type=click.Path(path_type=Path), metavar="FILE.py", help="Translations of torch operators."
        ),
    ]
    return _apply(function, options)


def _apply(function: F, options: list[Callable[[Any], Any]]) -> F:
    for option in reversed(options):
        function = option(function)
    return function


@dataclass(frozen=True)
class SourceArguments:
    """The texts of ``model_options``, and what they become."""

    values: dict[str, Any]

    @property
    def shapes(self) -> tuple[ShapeSpec, ...]:
        from assay.core.shapes import parse_shape

        return tuple(parse_shape(t) for t in self.values["shapes"])

    @property
    def ranges(self) -> tuple[tuple[str, float, float], ...]:
        from assay.core.shapes import parse_range

        return tuple(parse_range(t) for t in self.values["ranges"])

    def source(self, out_dir: Path) -> Any:
        from assay.sources import SourceOptions

        v = self.values
        return SourceOptions(
            out_dir=out_dir,
            weights=v["weights"],
            arch=v["arch"],
            md5=v["md5"],
            sha256=v["sha256"],
            trust=v["trust"],
            strict=not v["no_strict"],
            seed=v["seed"],
            shapes=self.shapes,
            ranges=self.ranges,
        )

    def export(self, batch: int | str | None = None) -> Any:
        """``batch`` None: free, unless ``--shape`` fixes it (a number there *is* the statement "static")."""
        from assay.export.options import ExportOptions

        v = self.values
        if batch is None:
            first = {spec.dims[0] for spec in self.shapes if spec.dims}
            fixed = first.pop() if len(first) == 1 else None
            batch = fixed if isinstance(fixed, int) else "dynamic"
        return ExportOptions(
            exporter=v.get("exporter", "auto"),
            opset=v.get("opset"),
            batch=batch,
            shapes=self.shapes,
            input_names=words(v.get("input_names")),
            output_names=words(v.get("output_names")),
            params=not v.get("no_params", False),
            constant_folding=not v.get("no_constant_folding", False),
            passes=() if v.get("passes", "onnxslim") == "none" else words(v.get("passes", "onnxslim")),
            custom_ops=v.get("custom_op"),
            seed=v["seed"],
            ranges=self.ranges,
        )


def words(text: str | None) -> tuple[str, ...]:
    """``"a, b"`` -> ``("a", "b")``; None -> ()."""
    return tuple(w.strip() for w in (text or "").split(",") if w.strip())


def precisions(text: str | None) -> tuple[str, ...] | None:
    """None stays None ("all available").  Raises UnknownName with near names."""
    from assay.core.engine import PRECISIONS

    if text is None:
        return None
    names = words(text)
    for name in names:
        if name not in PRECISIONS:
            raise UnknownName("precision", name, PRECISIONS)
    return names or None


def asked_precision(text: str | None, verb: str) -> str | None:
    """The one precision that was asked for; None stays None.  Raises as ``one_precision``."""
    return None if text is None else one_precision(text, verb)


def one_precision(text: str, verb: str) -> str:
    """The one precision ``verb`` works in.  Raises UnknownName, or BadInput for several."""
    found = precisions(text)
    if not found or len(found) != 1:
        raise BadInput(f"{verb} works in one precision at a time, not {text!r}", remedy="--precision bf16")
    return found[0]


def sizes(text: str, example: str = "--batch 1,4,8") -> tuple[int, ...]:
    """``"1,4,8"`` -> (1, 4, 8).  Raises BadInput."""
    try:
        found = tuple(dict.fromkeys(int(w) for w in words(text)))
    except ValueError:
        found = ()
    if not found or min(found) < 1:
        raise BadInput(f"{text!r} is not a list of batch sizes", remedy=example)
    return found


def fraction(text: str | None, option: str = "--max-drop", example: str = "0.5%") -> float | None:
    """``"0.5%"`` or ``"0.005"`` -> 0.005; None stays None.  Raises BadInput for what is no share from 0 up to 100 %."""
    if text is None:
        return None
    number, percent = text.strip().removesuffix("%"), text.strip().endswith("%")
    try:
        value = float(number) / (100 if percent else 1)
    except ValueError:
        value = -1.0
    if not 0 <= value < 1:
        raise BadInput(
            f"{option} {text}: this is not a drop or a margin from 0 up to 100 %", remedy=f"{option} {example}"
        )
    return value


def duration(text: str | None, option: str = "--duration") -> float | None:
    """How long something is to take: ``"50ms"``, ``"2s"``, ``"1m"``, or a plain number of seconds -> seconds; None
    stays None.  Raises BadInput for anything else, and for what is not above zero."""
    from assay.core.units import parse_seconds

    if text is None:
        return None
    try:
        value = parse_seconds(text)
    except ValueError as error:
        raise BadInput(f"{option} {text}: {error}", remedy=f"{option} 3s") from None
    if not value > 0:
        raise BadInput(f"{option} {text}: a measurement lasts longer than {value:g} s", remedy=f"{option} 3s")
    return value


def output_of(verb: str, values: dict[str, Any]) -> Output:
    """The Output for the common options, which are taken out of ``values``."""
    values.pop("debug", None)
    return Output(verb, values.pop("json_to"), values.pop("quiet"))


def command_line(verb: str) -> str:
    """The command as it was typed, for reports."""
    import shlex
    import sys

    return shlex.join(["assay", *sys.argv[1:]]) if sys.argv[1:2] == [verb] else f"assay {verb}"
