"""The command line.  A verb's module is imported only when that verb is called."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import Any

import click

from assay._version import __version__
from assay.core.table import load

VERBS: dict[str, str] = {
    "run": "assay.cli.run:command",
    "export": "assay.cli.export:command",
    "inspect": "assay.cli.inspect:command",
    "quantize": "assay.cli.quantize:command",
    "build": "assay.cli.build:command",
    "verify": "assay.cli.verify:command",
    "diagnose": "assay.cli.diagnose:command",
    "prepare": "assay.cli.prepare:command",
    "predict": "assay.cli.predict:command",
    "evaluate": "assay.cli.evaluate:command",
    "bench": "assay.cli.bench:command",
    "tune": "assay.cli.tune:command",
    "import": "assay.cli.imports:command",
    "gate": "assay.cli.gate:command",
    "compare": "assay.cli.compare:command",
    "report": "assay.cli.report:command",
    "runs": "assay.cli.runs:command",
    "pack": "assay.cli.pack:command",
    "check": "assay.cli.check:command",
    "replay": "assay.cli.replay:command",
    "serve": "assay.cli.serve:command",
    "doctor": "assay.cli.doctor:command",
    "engines": "assay.cli.engines:command",
    "models": "assay.cli.models:command",
    "completion": "assay.cli.completion:command",
}

SUMMARIES: dict[str, str] = {
    "run": "export, build, prove, measure, choose, judge, report, pack",
    "export": "a PyTorch model to ONNX, checked and compared",
    "build": "an engine file from an ONNX file",
    "quantize": "a lower precision, calibrated and controlled on real samples",
    "inspect": "what is in a model file: signature, operators, MACs",
    "verify": "is CANDIDATE the same model as REF?  Output by output",
    "diagnose": "which stage, operator and line makes CANDIDATE differ?",
    "evaluate": "accuracy on a dataset, every prediction kept",
    "predict": "a few inputs: classes, an enlarged picture, or a mask",
    "prepare": "data as the .bin + info + label set of vendor tools",
    "bench": "latency and throughput: one caller, offline, clients, arrivals",
    "tune": "the fastest configuration within limits and a budget",
    "import": "other tools' logs into Records, and what contradicts what",
    "compare": "runs, machines or logs side by side; unlike is refused",
    "gate": "judge a run by a policy; the exit code says it",
    "report": "write a run's report again: HTML, Markdown, CSV",
    "runs": "past runs: listed, filtered, and what changed between two",
    "pack": "a run's bundle copied to where it is wanted, or for Triton",
    "check": "a bundle's digests, and its golden outputs run here",
    "replay": "a bundle's evidence taken again, after an upgrade",
    "serve": "REST and gRPC: Open Inference Protocol v2, dynamic batching",
    "doctor": "what works here, what is missing, and how to install it",
    "engines": "the engines and what each can do on this machine",
    "models": "model names that can be typed",
    "completion": "Tab completes verbs and options in bash, zsh and fish",
}

GROUPS: tuple[tuple[str, tuple[str, ...]], ...] = (
    ("Start here: the whole job, in one run folder", ("run",)),
    ("Make a model file", ("export", "build", "quantize", "inspect")),
    ("Prove that it is still the same model", ("verify", "diagnose", "evaluate", "predict", "prepare")),
    ("Make it fast", ("bench", "tune")),
    ("Compare and judge", ("compare", "gate", "import", "report", "runs")),
    ("Ship it", ("pack", "check", "serve", "replay")),
    ("This machine", ("doctor", "engines", "models", "completion")),
)

GUARDED = frozenset(VERBS) - {"serve", "completion"}
"""Verbs that are ended before they take all memory.  A server lives long: what was left when it began says nothing."""


class Verbs(click.Group):
    """Looks verbs up in the table; help is written from the summaries without importing anything."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(VERBS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in VERBS:
            return None
        command: click.Command = load(VERBS[cmd_name])
        command.name = cmd_name
        command.short_help = SUMMARIES[cmd_name]
        return command

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        from assay.core.errors import suggest

        if args and args[0] not in VERBS and not args[0].startswith("-"):
            near = suggest(args[0], VERBS)
            hint = f"; did you mean {' or '.join(near)}?" if near else "; see assay --help"
            raise click.UsageError(f"there is no verb {args[0]!r}{hint}", ctx)
        name, command, rest = super().resolve_command(ctx, args)
        if command is not None:
            refuse_repeated(ctx, command, rest)
        return name, command, rest

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        widest = max(len(name) for name in SUMMARIES)
        for title, names in GROUPS:
            with formatter.section(title):
                formatter.write_dl([(name.ljust(widest), SUMMARIES[name]) for name in names])


def refuse_repeated(parent: click.Context, command: click.Command, args: Sequence[str]) -> None:
    """Raises UsageError for an option that takes one value and is given two: only the last would count."""
    context = click.Context(command, parent, command.name, resilient_parsing=True)
    try:
        given = command.make_parser(context).parse_args(list(args))[2]
    except click.UsageError:
        return  # told when it is parsed in earnest
    for option in given:
        if not isinstance(option, click.Option) or option.multiple or option.is_flag or option.count:
            continue
        if given.count(option) > 1:
            listed = f"; several go into one: {option.opts[0]} A,B" if (option.metavar or "").endswith(",…") else ""
            said = f"{option.opts[0]} is given {given.count(option)} times, and takes one value{listed}"
            raise click.UsageError(said, context)


@click.group(
    cls=Verbs,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
    epilog="assay VERB --help says what VERB takes; every verb takes --json.  "
    "Exit codes: 0 passed, 1 a limit was missed, 2 bad input, 3 not available here, 4 failure, 130 interrupted.",
)
@click.version_option(__version__, prog_name="assay")
def root() -> None:
    """Takes a PyTorch model to a deployable inference engine, and proves it.

    \b
    assay run timm:resnet18 --data imagenet/val
    assay run net.py:my_net --weights net.pt --data digits
    """


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command line and exit with its code (INTERFACE.md, "Exit codes")."""
    from assay.cli import interrupts

    interrupts.install()
    given = list(sys.argv[1:] if arguments is None else arguments)
    if given and given[0] in GUARDED:
        _guard_memory(given)
    sys.exit(run_cli(given))


def _guard_memory(arguments: list[str]) -> None:
    from assay.cli import memory_guard
    from assay.cli.failures import report_failure
    from assay.core.errors import AssayError

    try:
        memory_guard.install(lambda error: report_failure(error, arguments))
    except AssayError as error:
        sys.exit(report_failure(error, arguments))


def run_cli(arguments: list[str]) -> int:
    """Run the command line and return its exit code; no traceback reaches the user without ``--debug``."""
    from assay.cli.failures import report_failure

    debug = "--debug" in arguments
    try:
        result: Any = root.main(args=arguments, prog_name="assay", standalone_mode=False)
    except Exception as error:
        if debug and not isinstance(error, click.exceptions.ClickException | click.exceptions.Abort):
            raise
        return report_failure(error, arguments)
    except KeyboardInterrupt as error:
        return report_failure(error, arguments)
    return result if isinstance(result, int) else 0


if __name__ == "__main__":
    main()
