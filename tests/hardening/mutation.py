"""Seeded damage to files: bits, lengths, cuts, copies, and values that programs stumble over."""

from __future__ import annotations

import json
import random
from collections.abc import Callable
from pathlib import PurePath
from typing import Any

Mutator = Callable[[bytearray, random.Random], None]
_NUMBERS = (0, 1, 0x7F, 0x80, 0xFF, 0x7FFF, 0xFFFF, 0x7FFFFFFF, 0xFFFFFFFF, 2**63 - 1, 2**64 - 1)
_TEXTS = (
    b"NaN", b"Infinity", b"-1", b"1e999", b"0", b"null", b"9" * 5000, b"\xff\xfe", b"\xed\xa0\x80", b"\x00", b"\x1b[2J",
    b"../../etc/passwd", b"%s%n{0}{__class__}", b"[" * 3000, b'{"a":' * 3000, b'"', b"'''", b"\\", b"\n\n",
    b"\xe2\x80\xae",
)  # fmt: skip


_VALUES: tuple[Any, ...] = (
    None, True, -1, 0, 10**30, 1e308, -0.0, "", "x", "../../x", "<b>", "NaN", "\u202e", "\x1b[2J", [], {}, [[]],
    {"": None},
)  # fmt: skip


def mutate(content: bytes, seed: int, name: str = "") -> bytes:
    """``content`` with one to four pieces of damage; the same for the same seed, and never ``content`` itself.

    Every other time, a file whose ``name`` says that it is ONNX or JSON stays one, with other values in it.
    """
    rng = random.Random(seed)
    inner = WHOLE.get(PurePath(name).suffix)
    if inner is not None and rng.random() < 0.5:
        changed = inner(content, rng)
        if changed != content:
            return changed
    data = bytearray(content)
    for _ in range(rng.choice((1, 1, 2, 4))):
        rng.choice(MUTATORS)(data, rng)
    if bytes(data) == content:
        data += b"\x00"
    return bytes(data)


def _place(data: bytearray, rng: random.Random) -> int:
    """Anywhere, the first bytes more often: headers lie there."""
    return rng.randrange(min(len(data), 64) if rng.random() < 0.3 else len(data)) if data else 0


def flip_a_bit(data: bytearray, rng: random.Random) -> None:
    if data:
        data[_place(data, rng)] ^= 1 << rng.randrange(8)


def flip_bytes(data: bytearray, rng: random.Random) -> None:
    for _ in range(rng.randint(1, 16) if data else 0):
        data[_place(data, rng)] = rng.randrange(256)


def cut_short(data: bytearray, rng: random.Random) -> None:
    del data[rng.randrange(len(data) + 1) :]


def leave_out(data: bytearray, rng: random.Random) -> None:
    start = _place(data, rng)
    del data[start : start + rng.randint(1, 64)]


def double(data: bytearray, rng: random.Random) -> None:
    start = _place(data, rng)
    piece = data[start : start + rng.randint(1, 256)]
    data[start:start] = piece * rng.choice((1, 1, 3, 100))


def zeros(data: bytearray, rng: random.Random) -> None:
    start, size = _place(data, rng), rng.randint(1, 64)
    data[start : start + size] = bytes(len(data[start : start + size]))


def a_number(data: bytearray, rng: random.Random) -> None:
    """A length, an offset or a dimension may lie here."""
    size = rng.choice((1, 2, 4, 8))
    value = rng.choice(_NUMBERS) % 2 ** (8 * size)
    start = _place(data, rng)
    data[start : start + size] = value.to_bytes(size, rng.choice(("little", "big")))


def a_varint(data: bytearray, rng: random.Random) -> None:
    """A protobuf length or dimension that is far too large."""
    start = _place(data, rng)
    data[start : start + 1] = b"\xff" * rng.choice((1, 3, 4, 9)) + b"\x01"


def a_text(data: bytearray, rng: random.Random) -> None:
    start = _place(data, rng)
    data[start : start + rng.choice((0, 1, 4))] = rng.choice(_TEXTS)


def another_digit(data: bytearray, rng: random.Random) -> None:
    """Numbers in text become others."""
    digits = [i for i, c in enumerate(data) if 48 <= c <= 57]
    if digits:
        place = rng.choice(digits)
        data[place : place + 1] = rng.choice(
            (b"-", b"0", b"99999999999", b"1e400", b".", b"nan", b'"x"', b"[]", b"null")
        )


def a_line_elsewhere(data: bytearray, rng: random.Random) -> None:
    lines = bytes(data).split(b"\n")
    if len(lines) > 1:
        lines.insert(rng.randrange(len(lines)), lines.pop(rng.randrange(len(lines))))
        data[:] = b"\n".join(lines)


MUTATORS: tuple[Mutator, ...] = (
    flip_a_bit, flip_bytes, cut_short, leave_out, double, zeros, a_number, a_varint, a_text, another_digit,
    a_line_elsewhere,
)  # fmt: skip


def other_values(content: bytes, rng: random.Random) -> bytes:
    """JSON, or lines of it, in which some values have become others."""
    try:
        lines = [json.loads(line) for line in content.decode().splitlines()]
        single = False
    except ValueError:
        try:
            lines, single = [json.loads(content)], True
        except ValueError:
            return content
    for _ in range(rng.randint(1, 3)):
        place = rng.randrange(len(lines))
        lines[place] = _other(lines[place], rng)
    made = json.dumps(lines[0], indent=2) if single else "".join(json.dumps(line) + "\n" for line in lines)
    return made.encode()


def _other(value: Any, rng: random.Random) -> Any:
    """``value`` with something in it replaced, left out or doubled; the deeper the likelier."""
    if isinstance(value, dict) and value and rng.random() < 0.92:
        key = rng.choice(list(value))
        if rng.random() < 0.1:
            return {k: v for k, v in value.items() if k != key}
        return {**value, key: _other(value[key], rng)}
    if isinstance(value, list) and value and rng.random() < 0.92:
        place = rng.randrange(len(value))
        if rng.random() < 0.15:
            return [*value, value[place]]
        return [*value[:place], _other(value[place], rng), *value[place + 1 :]]
    return rng.choice(_VALUES)


def other_graph(content: bytes, rng: random.Random) -> bytes:
    """An ONNX file that still is one, with other dimensions, types, names, operators or attributes."""
    import onnx

    try:
        model = onnx.load_model_from_string(content)
    except Exception:
        return content
    for _ in range(rng.randint(1, 3)):
        rng.choice(_GRAPH)(model, rng)
    made: bytes = model.SerializeToString()
    return made


def _a_dimension(model: Any, rng: random.Random) -> None:
    value = rng.choice([*model.graph.input, *model.graph.output])
    dims = value.type.tensor_type.shape.dim
    if dims:
        dim = rng.choice(list(dims))
        if rng.random() < 0.5:
            dim.dim_value = rng.choice((0, 1, 3, -1, 2**31, 2**62))
        else:
            dim.dim_param = rng.choice(("n", "", "h*w/0", "n" * 3000, "Max(h, w)", "__import__('os')"))


def _a_type(model: Any, rng: random.Random) -> None:
    rng.choice([*model.graph.input, *model.graph.output]).type.tensor_type.elem_type = rng.randrange(25)


def _a_name(model: Any, rng: random.Random) -> None:
    node = rng.choice(model.graph.node)
    names = rng.choice((node.input, node.output))
    if names:
        names[rng.randrange(len(names))] = rng.choice(("", "x", "w", "m", "c", "nowhere", "../x", "\u202e"))


def _an_operator(model: Any, rng: random.Random) -> None:
    node = rng.choice(model.graph.node)
    node.op_type = rng.choice(
        ("Relu", "Loop", "If", "Scan", "Tile", "Expand", "ConstantOfShape", "Nothing", "", "Gemm")
    )


def _an_attribute(model: Any, rng: random.Random) -> None:
    node = rng.choice(model.graph.node)
    if node.attribute:
        attribute = rng.choice(node.attribute)
        attribute.type = rng.randrange(15)
        attribute.i = rng.choice((-1, 0, 2**40))


def _a_weight(model: Any, rng: random.Random) -> None:
    if model.graph.initializer:
        tensor = rng.choice(model.graph.initializer)
        change = rng.randrange(4)
        if change == 0:
            tensor.dims[:] = rng.choice(([], [0], [2**40], [-1, 4], [3, 3, 3]))
        elif change == 1:
            tensor.data_type = rng.randrange(25)
        elif change == 2:
            tensor.raw_data = b"\xff" * rng.randrange(64)
        else:
            tensor.data_location = 1
            tensor.external_data.add(key="location", value=rng.choice(("../x", "/etc/passwd", "", "\x00", "bad.onnx")))
            tensor.external_data.add(key="length", value=rng.choice(("-1", "1" * 30, "x", "16")))
            tensor.external_data.add(key="offset", value=rng.choice(("-1", "1" * 30, "x", "0")))


def _a_node_again(model: Any, rng: random.Random) -> None:
    model.graph.node.append(rng.choice(model.graph.node))


def _an_opset(model: Any, rng: random.Random) -> None:
    opset = rng.choice(model.opset_import)
    opset.version = rng.choice((0, 1, 6, 22, 10**6, -1))


_GRAPH = (_a_dimension, _a_type, _a_name, _an_operator, _an_attribute, _a_weight, _a_node_again, _an_opset)
WHOLE: dict[str, Callable[[bytes, random.Random], bytes]] = {
    ".onnx": other_graph,
    ".json": other_values,
    ".jsonl": other_values,
}
"""Suffix -> damage that leaves the file one of its kind."""
