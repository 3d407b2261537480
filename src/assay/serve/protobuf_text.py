"""Protobuf's text format, read without protobuf: a tree of fields that know their line.

https://protobuf.dev/reference/protobuf/textformat-spec.  What a field means, and whether it exists, is the
reader's business; extensions and ``Any`` in brackets are read as plain names.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

from assay.core.errors import BadInput

MOST_DEPTH = 100
_TOKEN = re.compile(
    r"""(?P<space>[ \t\r\f\v]+|\#[^\n]*)
      | (?P<line>\n)
      | (?P<string>"(?:[^"\\\n]|\\.)*"|'(?:[^'\\\n]|\\.)*')
      | (?P<number>-?\s*(?:0[xX][0-9a-fA-F]+|(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?)[fF]?(?![\w.]))
      | (?P<name>-?\s*[A-Za-z_]\w*)
      | (?P<bracketed>\[[A-Za-z_][\w./]*\])
      | (?P<mark>[{}<>\[\]:,;])""",
    re.VERBOSE,
)
_ESCAPE = re.compile(rb"\\(?:([abfnrtv\\'\"?])|([0-7]{1,3})|x([0-9a-fA-F]{1,2})|u([0-9a-fA-F]{4})|U([0-9a-fA-F]{8}))")
_PLAIN = {b"a": b"\a", b"b": b"\b", b"f": b"\f", b"n": b"\n", b"r": b"\r", b"t": b"\t", b"v": b"\v"}


@dataclass(frozen=True)
class Word:
    """An enum's name, ``true`` or ``false``, as it stands there."""

    text: str


Scalar = Word | str | int | float


@dataclass(frozen=True)
class Field:
    """``value`` is a scalar or a message; a list in brackets becomes one Field for each element."""

    name: str
    value: Scalar | Message
    line: int


@dataclass(frozen=True)
class Message:
    """Fields in the order of the file; a name may come again."""

    fields: tuple[Field, ...]
    line: int


@dataclass(frozen=True)
class _Token:
    kind: str
    text: str
    line: int


def parse(text: str, source: str) -> Message:
    """The message in ``text``; ``source`` is what errors call the file.  Raises BadInput with ``file:line``."""
    return _Parser(list(_tokens(text, source)), source).message(None, 0)


def _tokens(text: str, source: str) -> Iterator[_Token]:
    at, line = 0, 1
    while at < len(text):
        found = _TOKEN.match(text, at)
        if found is None:
            raise BadInput(f"{source}:{line}: {text[at : at + 20].splitlines()[0]!r} is not expected here")
        kind = found.lastgroup or ""
        if kind == "line":
            line += 1
        elif kind != "space":
            yield _Token(kind, found.group(), line)
            line += found.group().count("\n")
        at = found.end()


class _Parser:
    def __init__(self, tokens: list[_Token], source: str) -> None:
        self._tokens = tokens
        self._source = source
        self._at = 0

    def message(self, end: str | None, opened: int) -> Message:
        if opened and self._depth(opened) > MOST_DEPTH:
            raise self._error("messages are nested too deeply", opened)
        fields: list[Field] = []
        while True:
            token = self._next()
            if token is None:
                if end is not None:
                    raise self._error(f"the message opened here is not closed with {end!r}", opened)
                return Message(tuple(fields), opened or 1)
            if end is not None and token.text == end:
                self._nested -= 1
                return Message(tuple(fields), opened)
            if token.kind not in ("name", "bracketed"):
                raise self._error(f"a field's name is expected, not {token.text!r}", token.line)
            fields.extend(self._field(token))
            self._skip(",", ";")

    _nested = 0

    def _depth(self, opened: int) -> int:
        self._nested += 1
        return self._nested

    def _field(self, name: _Token) -> list[Field]:
        plain = name.text.strip("[]")
        colon = self._skip(":")
        token = self._next()
        if token is None:
            raise self._error(f"{plain} has no value", name.line)
        if token.text == "[" or (token.kind == "bracketed" and colon):
            return self._listed(plain, token)
        return [Field(plain, self._value(token, plain, colon), name.line)]

    def _listed(self, name: str, opening: _Token) -> list[Field]:
        if opening.kind == "bracketed":  # a list of one word
            return [Field(name, Word(opening.text[1:-1]), opening.line)]
        found: list[Field] = []
        if self._skip("]"):
            return found
        while True:
            token = self._next()
            if token is None:
                raise self._error(f"the list of {name} is not closed with ']'", opening.line)
            found.append(Field(name, self._value(token, name, True), token.line))
            if self._skip("]"):
                return found
            if not self._skip(","):
                raise self._error(f"',' or ']' is expected in the list of {name}", token.line)

    def _value(self, token: _Token, name: str, colon: bool) -> Scalar | Message:
        if token.text in ("{", "<"):
            return self.message("}" if token.text == "{" else ">", token.line)
        if not colon:
            raise self._error(f"':' or '{{' is expected after {name}", token.line)
        if token.kind == "string":
            text = _unescaped(token.text)
            while self._at < len(self._tokens) and self._tokens[self._at].kind == "string":
                text += _unescaped(self._tokens[self._at].text)
                self._at += 1
            return text
        if token.kind == "number":
            return self._number(token)
        if token.kind == "name":
            return Word(token.text)
        raise self._error(f"{name} has no value", token.line)

    def _number(self, token: _Token) -> int | float:
        text = "".join(token.text.split())
        plain = text.lstrip("-")
        try:
            if plain[:2].lower() == "0x":
                return int(text, 16)
            if plain.isdigit():
                return int(text, 8) if len(plain) > 1 and plain.startswith("0") else int(text)
            return float(text.rstrip("fF"))
        except ValueError:
            raise self._error(f"{text!r} is no number", token.line) from None

    def _next(self) -> _Token | None:
        if self._at == len(self._tokens):
            return None
        self._at += 1
        return self._tokens[self._at - 1]

    def _skip(self, *marks: str) -> bool:
        if self._at < len(self._tokens) and self._tokens[self._at].text in marks:
            self._at += 1
            return True
        return False

    def _error(self, message: str, line: int) -> BadInput:
        return BadInput(f"{self._source}:{line}: {message}")


def _unescaped(quoted: str) -> str:
    """An octal or hexadecimal escape is one byte of the text's UTF-8."""

    def plain(found: re.Match[bytes]) -> bytes:
        letter, octal, byte, *wide = found.groups()
        if letter is not None:
            return _PLAIN.get(letter, letter)
        if octal is not None or byte is not None:
            return bytes(((int(octal, 8) & 0xFF) if octal is not None else int(byte, 16),))
        code = int(next(w for w in wide if w is not None), 16)
        return chr(min(code, 0x10FFFF)).encode("utf-8", "replace")

    return _ESCAPE.sub(plain, quoted[1:-1].encode("utf-8", "replace")).decode("utf-8", "replace")
