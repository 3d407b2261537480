"""What ``assay serve`` was told, as one table: ``serve.toml`` with the command line's options laid over it.

::

    host = "0.0.0.0"
    http_port = 8000            # also grpc_port, metrics_port; false: not served
    token_file = "token"        # also tls_cert, tls_key, admin, allow_host, watch, drain, access_log
    policy = "adaptive"         # also max_batch, delay, preferred, instances, threads, slo, max_queue, priority_levels
    [limits]
    body = "128MiB"             # the fields of serve.settings.Limits
    [[model]]
    source = "runs/a/bundle"    # also name, engine, precision, device, preprocess, trust, digest, and the batching keys
"""

from __future__ import annotations

import tomllib
from collections.abc import Callable, Mapping
from dataclasses import fields
from pathlib import Path
from typing import Any

from assay.core.errors import BadInput, UnknownName
from assay.core.units import parse_bytes, parse_seconds
from assay.job.packed import bundle_folder
from assay.job.serve.options import MOST_PIXELS, Batching, ServeRequest, Serving
from assay.serve.settings import Access, Limits, ServeSettings

_BATCHING = {
    "policy": "policy",
    "max_batch": "max_batch",
    "delay": "max_delay_s",
    "preferred": "preferred",
    "instances": "instances",
    "threads": "threads",
    "slo": "slo_s",
    "max_queue": "max_queue",
    "priority_levels": "priority_levels",
    "default_priority": "default_priority",
    "on_timeout": "on_timeout",
    "preserve_ordering": "preserve_ordering",
}
"""Key -> field of Batching."""
_MODEL = ("source", "name", "engine", "precision", "device", "preprocess", "trust", "digest", "triton_config")
_SERVER = ("host", "http_port", "grpc_port", "metrics_port", "drain", "access_log")
_ACCESS = ("token_file", "tls_cert", "tls_key", "admin", "allow_host")
_REQUEST = ("watch", "watch_every", "max_pixels", "decoders", "check_goldens", "shadow", "shadow_out")
_OF_MODELS = ("engine", "precision", "device")
"""Said for all: bundles beside other models, which were proved with their own, are not meant."""
_TABLES = ("limits", "model")
KEYS = (*_BATCHING, *_MODEL[1:], *_SERVER, *_ACCESS, *_REQUEST, *_TABLES)
SHORTEST_TOKEN = 8


def read_config(path: Path) -> dict[str, Any]:
    """The table in a TOML file; paths in it are relative to the file.  Raises BadInput."""
    try:
        table = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise BadInput(f"{path} cannot be read: {error.strerror}") from None
    except (ValueError, RecursionError) as error:  # not UTF-8, not TOML, numbers too long, tables too deep
        raise BadInput(f"{path} is not TOML: {error}") from None
    for key in ("token_file", "tls_cert", "tls_key", "watch", "shadow_out"):
        if isinstance(table.get(key), str):
            table[key] = str(path.parent / table[key])
    listed = table["model"] if isinstance(table.get("model"), list) else []
    for model in (table, *(m for m in listed if isinstance(m, dict))):
        for key in ("source", "preprocess", "triton_config"):  # a source may be a name, too
            value = model.get(key)
            if isinstance(value, str) and (path.parent / _file_in(value)).exists():
                model[key] = str(path.parent / value)
    return table


def _file_in(text: str) -> str:
    """The file of ``FILE.py:NAME``; any other text as it is."""
    file, colon, _ = text.rpartition(":")
    return file if colon and file.endswith(".py") else text


def request_of(table: Mapping[str, Any]) -> ServeRequest:
    """Raises BadInput or UnknownName, naming the key that is wrong."""
    for key in table:
        if key not in KEYS:
            raise UnknownName("setting of serve", key, KEYS)
    listed = table.get("model", [])
    if not isinstance(listed, list) or not all(isinstance(m, dict) for m in listed):
        raise BadInput("model must be a list of tables: [[model]]")
    base = {k: v for k, v in table.items() if k in _BATCHING or k in _MODEL}
    if base.get("name") is not None and len(listed) > 1:
        raise BadInput("--name is for one model", remedy="NAME=SOURCE gives each of several its own")
    bundles = [isinstance(m.get("source"), str) and bundle_folder(m["source"]) is not None for m in listed]
    of_bundles = {k: v for k, v in base.items() if k not in _OF_MODELS} if not all(bundles) else base
    return ServeRequest(
        models=tuple(_serving({**(of_bundles if b else base), **m}) for m, b in zip(listed, bundles, strict=True)),
        settings=_settings(table),
        watch=None if table.get("watch") is None else Path(_text(table, "watch")),
        watch_s=_seconds(table.get("watch_every", 1.0), "watch_every"),
        defaults=_serving({**{k: v for k, v in base.items() if k not in _OF_MODELS}, "source": "", "name": None}),
        most_pixels=_count(table.get("max_pixels", MOST_PIXELS), "max_pixels"),
        decoders=None if table.get("decoders") is None else _count(table["decoders"], "decoders"),
        check_goldens=_flag(table, "check_goldens", True),
        shadows=_words(table.get("shadow", ()), "shadow"),
        shadow_out=None if table.get("shadow_out") is None else Path(_text(table, "shadow_out")),
    )


def _serving(table: Mapping[str, Any]) -> Serving:
    for key in table:
        if key not in _BATCHING and key not in _MODEL:
            raise UnknownName("setting of a model", key, (*_MODEL, *_BATCHING))
    if not isinstance(table.get("source"), str):
        raise BadInput("every [[model]] needs a source: a bundle's folder or a MODEL")
    given = {k: table[k] for k in _MODEL if table.get(k) is not None}
    for key, value in given.items():
        if not isinstance(value, bool if key == "trust" else str):
            raise BadInput(f"{key} cannot be {value!r}")
    asked = frozenset(_BATCHING[k] for k in _BATCHING if table.get(k) is not None)
    return Serving(**given, batching=_batching(table), given=asked)


def _batching(table: Mapping[str, Any]) -> Batching:
    read: dict[str, Callable[[Any, str], Any]] = {
        "delay": _seconds,
        "slo": _seconds,
        "policy": _word,
        "on_timeout": _word,
        "preferred": _sizes,
        "preserve_ordering": _yes_no,
    }
    given = {k: table[k] for k in _BATCHING if table.get(k) is not None}
    if "delay" in given and "policy" not in given:
        given["policy"] = "delay"
    made: dict[str, Any] = {}
    for key, value in given.items():
        reader: Callable[[Any, str], Any] = read.get(key, _count)
        made[_BATCHING[key]] = reader(value, key)
    return Batching(**made)


def _settings(table: Mapping[str, Any]) -> ServeSettings:
    defaults = ServeSettings()
    token_file = table.get("token_file")
    access = Access(
        token=None if token_file is None else read_token(Path(_text(table, "token_file"))),
        admin=_flag(table, "admin", False),
        hosts=_words(table.get("allow_host", ()), "allow_host"),
        certificate=None if table.get("tls_cert") is None else Path(_text(table, "tls_cert")),
        key=None if table.get("tls_key") is None else Path(_text(table, "tls_key")),
    )
    return ServeSettings(
        host=_text(table, "host") if table.get("host") is not None else defaults.host,
        http_port=_port(table, "http_port", defaults.http_port),
        grpc_port=_port(table, "grpc_port", defaults.grpc_port),
        metrics_port=_port(table, "metrics_port", defaults.metrics_port),
        limits=_limits(table.get("limits", {})),
        access=access,
        drain_s=_seconds(table.get("drain", defaults.drain_s), "drain"),
        access_log=_flag(table, "access_log", False),
    )


def _limits(table: Any) -> Limits:
    if not isinstance(table, dict):
        raise BadInput("limits must be a table: [limits]")
    known = {f.name for f in fields(Limits)}
    given: dict[str, Any] = {}
    for key, value in table.items():
        if key not in known:
            raise UnknownName("limit", key, known)
        if key.endswith("_s"):
            given[key] = _seconds(value, key)
        elif key in ("connections", "pipelined"):
            given[key] = _count(value, key)
        else:
            given[key] = _bytes(value, key)
    return Limits(**given)


def read_token(path: Path) -> bytes:
    """The first line of a file, which others may not read.  Raises BadInput."""
    try:
        mode = path.stat().st_mode
        token = path.read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError) as error:
        raise BadInput(f"the token file {path} cannot be read: {error}") from None
    if mode & 0o007:
        raise BadInput(f"everybody may read or change the token file {path}", remedy=f"chmod 600 {path}")
    if len(token) < SHORTEST_TOKEN or not token.isascii() or any(c.isspace() for c in token):
        raise BadInput(f"a token is one ASCII word of at least {SHORTEST_TOKEN} characters; {path} holds none")
    return token.encode()


def _port(table: Mapping[str, Any], key: str, default: int | None) -> int | None:
    value = table.get(key, default)
    if value is False or value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value < 1 << 16:
        raise BadInput(f"{key} must be a port from 0 to 65535 (0: any free one), not {value!r}")
    return value


def _flag(table: Mapping[str, Any], key: str, default: bool) -> bool:
    value = table.get(key, default)
    if not isinstance(value, bool):
        raise BadInput(f"{key} must be true or false, not {value!r}")
    return value


def _yes_no(value: Any, key: str) -> bool:
    return _flag({key: value}, key, False)


def _text(table: Mapping[str, Any], key: str) -> str:
    return _word(table[key], key)


def _word(value: Any, key: str) -> str:
    if not isinstance(value, str) or not value:
        raise BadInput(f"{key} must be a text, not {value!r}")
    return value


def _words(value: Any, key: str) -> tuple[str, ...]:
    if not isinstance(value, list | tuple) or not all(isinstance(v, str) for v in value):
        raise BadInput(f"{key} must be a list of texts, not {value!r}")
    return tuple(value)


def _count(value: Any, key: str) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or value < 1:
        raise BadInput(f"{key} must be a number of at least 1, not {value!r}")
    return value


def _sizes(value: Any, key: str) -> tuple[int, ...]:
    if not isinstance(value, list | tuple):
        raise BadInput(f"{key} must be a list of batch sizes, not {value!r}")
    return tuple(_count(v, key) for v in value)


def _seconds(value: Any, key: str) -> float:
    try:
        found = parse_seconds(value) if isinstance(value, str) else float(value)
    except (ValueError, TypeError):
        raise BadInput(f"{key} must be a time such as 15ms, not {value!r}") from None
    if isinstance(value, bool) or not found >= 0:
        raise BadInput(f"{key} must be a time such as 15ms, not {value!r}")
    return found


def _bytes(value: Any, key: str) -> int:
    try:
        return parse_bytes(value) if isinstance(value, str) else _count(value, key)
    except ValueError:
        raise BadInput(f"{key} must be a size such as 128MiB, not {value!r}") from None
