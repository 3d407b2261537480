"""Triton's ``config.pbtxt``, for the fields a server has in common with ours.

Read with its own reader, so that a typing error is told with file and line and protobuf need not be there.
A field that has no meaning here is named in ``warnings`` and otherwise ignored; a model that cannot be
served the way the file says (sequences, ensembles, decoupled) is refused.
Source of the fields: Triton's model_config.proto and docs/user_guide/model_configuration.md.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from assay.core.errors import BadInput, suggest
from assay.serve.protobuf_text import Field, Message, Word, parse
from assay.serve.triton_settings import Batching, QueuePolicy, Tensor, TritonConfig, VersionPolicy, Warmup

NOT_SERVED = {
    "sequence_batching": "stateful models are out of scope",
    "ensemble_scheduling": "an ensemble has no model of its own; serve its parts",
}
WITHOUT_MEANING = (
    "batch_input",
    "batch_output",
    "optimization",
    "cc_model_filenames",
    "metric_tags",
    "parameters",
    "model_operations",
    "model_repository_agents",
    "response_cache",
    "runtime",
    "model_metrics",
    "default_model_filename",
)
OF_TENSORS = (
    "format",
    "reshape",
    "is_shape_tensor",
    "allow_ragged_batch",
    "optional",
    "label_filename",
    "is_non_linear_format_io",
)
OF_GROUPS = ("gpus", "rate_limiter", "secondary_devices", "profile", "passive", "host_policy")
DATATYPES = {
    "TYPE_STRING": "BYTES",
    **{f"TYPE_{name}": name for name in ("BOOL", "FP16", "BF16", "FP32", "FP64")},
    **{f"TYPE_{sign}INT{bits}": f"{sign}INT{bits}" for sign in ("", "U") for bits in (8, 16, 32, 64)},
}


def read_triton_config(path: Path) -> TritonConfig:
    """Raises BadInput with ``file:line`` for what is no text protobuf, has a wrong value, or cannot be served."""
    try:
        text = path.read_text(encoding="utf-8")
    except OSError as error:
        raise BadInput(f"cannot read {path}: {error.strerror}") from None
    except UnicodeDecodeError:
        raise BadInput(f"{path} is not a text file") from None
    return parse_triton_config(text, str(path))


def parse_triton_config(text: str, source: str = "config.pbtxt") -> TritonConfig:
    """``read_triton_config`` for text; ``source`` is what errors and warnings call the file."""
    return _Reader(source).config(parse(text, source))


class _Reader:
    """``warnings`` collects what was ignored."""

    def __init__(self, source: str) -> None:
        self._source = source
        self.warnings: list[str] = []

    # The whole file

    def config(self, message: Message) -> TritonConfig:
        found: dict[str, Any] = {}
        inputs: list[Tensor] = []
        outputs: list[Tensor] = []
        warmups: list[Warmup] = []
        groups: list[tuple[int, str]] = []
        take: dict[str, Callable[[Field], object]] = {
            "name": lambda f: found.__setitem__("name", self.text(f)),
            "platform": lambda f: found.__setitem__("platform", self.text(f)),
            "backend": lambda f: found.__setitem__("backend", self.text(f)),
            "max_batch_size": lambda f: found.__setitem__("max_batch", self.number(f)),
            "input": lambda f: inputs.append(self.tensor(f)),
            "output": lambda f: outputs.append(self.tensor(f)),
            "dynamic_batching": lambda f: found.__setitem__("batching", self.batching(f)),
            "instance_group": lambda f: groups.append(self.group(f)),
            "version_policy": lambda f: found.__setitem__("version_policy", self.version_policy(f)),
            "model_warmup": lambda f: warmups.append(self.warmup(f)),
            "model_transaction_policy": self.transaction,
        }
        self.each(message, take, WITHOUT_MEANING, NOT_SERVED)
        made = TritonConfig(
            **found,
            inputs=tuple(inputs),
            outputs=tuple(outputs),
            warmups=tuple(warmups),
            instances=sum(count for count, _ in groups),
            instance_kinds=tuple(dict.fromkeys(kind for _, kind in groups)),
            warnings=tuple(self.warnings),
        )
        return self.consistent(made, message)

    def consistent(self, made: TritonConfig, message: Message) -> TritonConfig:
        batching = made.batching
        if batching is None:
            return made
        line = next(f.line for f in message.fields if f.name == "dynamic_batching")
        if made.max_batch < 1:
            raise self.error(line, "dynamic_batching needs max_batch_size of at least 1")
        too_large = [size for size in batching.preferred if size > made.max_batch]
        if too_large:
            raise self.error(line, f"preferred_batch_size {too_large[0]} is over max_batch_size {made.max_batch}")
        if batching.priority_levels and not 1 <= batching.default_priority <= batching.priority_levels:
            raise self.error(
                line, f"default_priority_level {batching.default_priority} is not within 1..{batching.priority_levels}"
            )
        return made

    # Its messages

    def tensor(self, given: Field) -> Tensor:
        found: dict[str, Any] = {"name": "", "datatype": ""}
        dims: list[int] = []
        self.each(
            self.message(given),
            {
                "name": lambda f: found.__setitem__("name", self.text(f)),
                "data_type": lambda f: found.__setitem__("datatype", self.datatype(f)),
                "dims": lambda f: dims.append(self.number(f, least=-1)),
            },
            OF_TENSORS,
        )
        return Tensor(**found, dims=tuple(dims))

    def batching(self, given: Field) -> Batching:
        found: dict[str, Any] = {}
        preferred: list[int] = []
        policies: dict[int, QueuePolicy] = {}
        self.each(
            self.message(given),
            {
                "preferred_batch_size": lambda f: preferred.append(self.number(f, least=1)),
                "max_queue_delay_microseconds": lambda f: found.__setitem__("max_delay_s", 1e-6 * self.number(f)),
                "preserve_ordering": lambda f: found.__setitem__("preserve_ordering", self.truth(f)),
                "priority_levels": lambda f: found.__setitem__("priority_levels", self.number(f)),
                "default_priority_level": lambda f: found.__setitem__("default_priority", self.number(f)),
                "default_queue_policy": lambda f: found.__setitem__("queue", self.queue_policy(f)),
                "priority_queue_policy": lambda f: policies.update([self.priority_policy(f)]),
            },
        )
        return Batching(**found, preferred=tuple(sorted(set(preferred))), by_priority=policies)

    def queue_policy(self, given: Field) -> QueuePolicy:
        found: dict[str, Any] = {}
        self.each(
            self.message(given),
            {
                "timeout_action": lambda f: found.__setitem__("on_timeout", self.word(f, ("REJECT", "DELAY")).lower()),
                "default_timeout_microseconds": lambda f: found.__setitem__("timeout_s", 1e-6 * self.number(f) or None),
                "allow_timeout_override": self.timeout_override,
                "max_queue_size": lambda f: found.__setitem__("max_queue", self.number(f)),
            },
        )
        return QueuePolicy(**found)

    def timeout_override(self, given: Field) -> None:
        if not self.truth(given):
            text = f"{given.name} false has no meaning here: a request may always ask for less time"
            self.warn(f"{self._source}:{given.line}: {text}")

    def priority_policy(self, given: Field) -> tuple[int, QueuePolicy]:
        self.warn(f"{self._source}:{given.line}: {given.name} is ignored: all priorities share default_queue_policy")
        found: dict[str, Any] = {"key": 0, "value": QueuePolicy()}
        self.each(
            self.message(given),
            {
                "key": lambda f: found.__setitem__("key", self.number(f, least=1)),
                "value": lambda f: found.__setitem__("value", self.queue_policy(f)),
            },
        )
        return found["key"], found["value"]

    def group(self, given: Field) -> tuple[int, str]:
        found: dict[str, Any] = {"count": 1, "kind": "KIND_AUTO"}
        kinds = ("KIND_AUTO", "KIND_GPU", "KIND_CPU", "KIND_MODEL")
        self.each(
            self.message(given),
            {
                "count": lambda f: found.__setitem__("count", self.number(f, least=1)),
                "kind": lambda f: found.__setitem__("kind", self.word(f, kinds)),
                "name": self.text,
            },
            OF_GROUPS,
        )
        return found["count"], found["kind"]

    def version_policy(self, given: Field) -> VersionPolicy:
        found: list[VersionPolicy] = []

        def latest(f: Field) -> None:
            counts = [1]
            self.each(self.message(f), {"num_versions": lambda n: counts.append(self.number(n, least=1))})
            found.append(VersionPolicy("latest", counts[-1]))

        def specific(f: Field) -> None:
            versions: list[int] = []
            self.each(self.message(f), {"versions": lambda n: versions.append(self.number(n, least=1))})
            if not versions:
                raise self.error(f.line, "specific names no versions")
            found.append(VersionPolicy("specific", 0, tuple(versions)))

        def all_of_them(f: Field) -> None:
            self.each(self.message(f), {})
            found.append(VersionPolicy("all", 0))

        self.each(self.message(given), {"latest": latest, "specific": specific, "all": all_of_them})
        if len(found) > 1:
            raise self.error(given.line, "version_policy is one of latest, all and specific")
        return found[0] if found else VersionPolicy()

    def warmup(self, given: Field) -> Warmup:
        found: dict[str, Any] = {"name": "", "batch_size": 1, "count": 1}
        inputs: dict[str, tuple[Tensor, str]] = {}
        self.each(
            self.message(given),
            {
                "name": lambda f: found.__setitem__("name", self.text(f)),
                "batch_size": lambda f: found.__setitem__("batch_size", self.number(f)),
                "count": lambda f: found.__setitem__("count", max(1, self.number(f))),
                "inputs": lambda f: inputs.update([self.warmup_input(f)]),
            },
        )
        return Warmup(**found, inputs=inputs)

    def warmup_input(self, given: Field) -> tuple[str, tuple[Tensor, str]]:
        found: dict[str, Any] = {"key": "", "datatype": "", "fill": "zero"}
        dims: list[int] = []

        def value(f: Field) -> None:
            self.each(
                self.message(f),
                {
                    "data_type": lambda d: found.__setitem__("datatype", self.datatype(d)),
                    "dims": lambda d: dims.append(self.number(d)),
                    "zero_data": lambda d: found.__setitem__("fill", "zero") if self.truth(d) else None,
                    "random_data": lambda d: found.__setitem__("fill", "random") if self.truth(d) else None,
                    "input_data_file": lambda d: found.__setitem__("fill", self.text(d)),
                },
            )

        self.each(self.message(given), {"key": lambda f: found.__setitem__("key", self.text(f)), "value": value})
        return found["key"], (Tensor(found["key"], found["datatype"], tuple(dims)), found["fill"])

    def transaction(self, given: Field) -> None:
        def decoupled(f: Field) -> None:
            if self.truth(f):
                raise self.error(f.line, "a decoupled model (many answers to one request) cannot be served here")

        self.each(self.message(given), {"decoupled": decoupled})

    # Fields and values

    def each(
        self,
        message: Message,
        take: Mapping[str, Callable[[Field], object]],
        ignored: tuple[str, ...] = (),
        refused: Mapping[str, str] | None = None,
    ) -> None:
        for found in message.fields:
            known = take.get(found.name)
            if known is not None:
                known(found)
            elif refused and found.name in refused:
                raise self.error(found.line, f"{found.name}: {refused[found.name]}")
            elif found.name in ignored:
                self.warn(f"{self._source}:{found.line}: {found.name} has no meaning here and is ignored")
            else:
                near = suggest(found.name, [*take, *ignored])
                hint = f" (did you mean {' or '.join(near)}?)" if near else ""
                self.warn(f"{self._source}:{found.line}: unknown field {found.name} is ignored{hint}")

    def warn(self, text: str) -> None:
        if text not in self.warnings:  # a list is a field for each of its elements
            self.warnings.append(text)

    def message(self, given: Field) -> Message:
        if not isinstance(given.value, Message):
            raise self.error(given.line, f"{given.name} is a message: {given.name} {{ … }}")
        return given.value

    def text(self, given: Field) -> str:
        if not isinstance(given.value, str):
            raise self.error(given.line, f"{given.name} is a text in quotes")
        return given.value

    def number(self, given: Field, least: int = 0) -> int:
        value = given.value
        if isinstance(value, bool) or not isinstance(value, int) or not least <= value < 1 << 63:
            shown = value.text if isinstance(value, Word) else "a message" if isinstance(value, Message) else value
            raise self.error(given.line, f"{given.name} is a whole number of at least {least}, not {shown}")
        return value

    def truth(self, given: Field) -> bool:
        value = given.value
        text = value.text if isinstance(value, Word) else str(value) if isinstance(value, int) else ""
        if text not in ("true", "True", "t", "1", "false", "False", "f", "0"):
            raise self.error(given.line, f"{given.name} is true or false")
        return text[0] in "tT1"

    def word(self, given: Field, names: tuple[str, ...]) -> str:
        value = given.value
        if not isinstance(value, Word) or value.text not in names:
            raise self.error(given.line, f"{given.name} is one of {', '.join(names)}")
        return value.text

    def datatype(self, given: Field) -> str:
        return DATATYPES[self.word(given, tuple(DATATYPES))]

    def error(self, line: int, message: str) -> BadInput:
        return BadInput(f"{self._source}:{line}: {message}")
