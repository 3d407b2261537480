"""Every way a command can end badly, as one message with what to do and the right exit code."""

from __future__ import annotations

import errno
import json
import sys
import tempfile
import traceback
from importlib.util import find_spec
from pathlib import Path

import click

from assay.core.errors import (
    EXIT_BAD_INPUT,
    EXIT_INTERNAL,
    EXIT_INTERRUPTED,
    EXIT_NOT_AVAILABLE,
    AssayError,
    StorageFailed,
)
from assay.present.text import hanging

_NO_PATH = (errno.ENAMETOOLONG, errno.ELOOP, errno.ENOTDIR, errno.EISDIR)
_ELSEWHERE = "free some room or give another --out, then run it again"
_STORAGE: dict[int, tuple[str, str]] = {
    errno.ENOSPC: ("write", _ELSEWHERE),
    errno.EDQUOT: ("write", _ELSEWHERE),
    errno.EROFS: ("write", _ELSEWHERE),
    errno.EACCES: ("read or write", "check who may read and write it, or give another --out"),
    errno.EPERM: ("read or write", "check who may read and write it, or give another --out"),
}


def report_failure(error: BaseException, arguments: list[str]) -> int:
    """Print the failure (as JSON too, where ``--json`` asked for it) and return the exit code."""
    code, message, remedy, log = _explain(error)
    target = _json_target(arguments)
    if target is not None:
        _write_json(target, json.dumps(_as_json(arguments, code, message, remedy)))
    click.echo(hanging(f"assay: {message}"), err=True)
    if remedy:
        click.echo(hanging(f"  try: {remedy}"), err=True)
    if log:
        click.echo(f"  log: {log}", err=True)
    return code


def _explain(error: BaseException) -> tuple[int, str, str | None, str | None]:
    if isinstance(error, KeyboardInterrupt | click.exceptions.Abort):
        return EXIT_INTERRUPTED, "interrupted; what was finished is saved", "run the same command again to resume", None
    if isinstance(error, click.exceptions.UsageError):
        where = error.ctx.command_path if error.ctx else "assay"
        return EXIT_BAD_INPUT, error.format_message(), f"{where} --help", None
    if isinstance(error, click.exceptions.ClickException):
        return EXIT_BAD_INPUT, error.format_message(), None, None
    if isinstance(error, AssayError):
        return error.exit_code, error.message, error.remedy, error.log
    if isinstance(error, OSError) and error.errno in _STORAGE:
        where = f": {error.filename}" if error.filename else ""
        what, remedy = _STORAGE[error.errno]
        failed = StorageFailed(f"cannot {what} ({error.strerror}){where}")
        return failed.exit_code, failed.message, remedy, None
    if isinstance(error, OSError) and error.errno in _NO_PATH:
        where = f": {error.filename}" if error.filename and error.errno != errno.ENAMETOOLONG else ""
        message = f"a path that was given is none: {error.strerror}{where}"
        return EXIT_BAD_INPUT, message, "check the names that were typed", None
    if isinstance(error, ModuleNotFoundError) and error.name and find_spec(error.name.partition(".")[0]) is None:
        return EXIT_NOT_AVAILABLE, *_not_installed(error.name), None
    return (
        EXIT_INTERNAL,
        f"internal failure: {type(error).__name__}: {error}",
        "add --debug to see where",
        _write_log(error),
    )


def _not_installed(module: str) -> tuple[str, str]:
    """What is said of a module that is not there, and what installs it."""
    from assay.job.doctor import OPTIONAL

    extras = {name: extra for _, name, _, extra in OPTIONAL}
    extra = extras.get(module.partition(".")[0])
    remedy = f"pip install 'assay[{extra}]'" if extra else "assay doctor says what is missing, and what installs it"
    return f"this needs the Python module {module}, which is not installed here", remedy


def _json_target(arguments: list[str]) -> str | None:
    """Where ``--json [FILE]`` sends the result, by the same reading as click's: ``-`` is stdout, None is nowhere."""
    for index, argument in enumerate(arguments):
        if argument.startswith("--json="):
            return argument.removeprefix("--json=")
        if argument == "--json":
            following = arguments[index + 1] if index + 1 < len(arguments) else "-"
            return "-" if following.startswith("-") else following
    return None


def _write_json(target: str, text: str) -> None:
    from assay.cli.output import is_foreign

    if target != "-":
        try:
            if not is_foreign(Path(target)):
                Path(target).write_text(text + "\n", encoding="utf-8")
                return
        except OSError:
            pass  # the failure is still told: on stdout
    click.echo(text)


def _write_log(error: BaseException) -> str | None:
    try:
        with tempfile.NamedTemporaryFile("w", prefix="assay-", suffix=".log", delete=False) as file:
            file.write("".join(traceback.format_exception(error)))
            return str(Path(file.name))
    except OSError:
        sys.stderr.write("".join(traceback.format_exception(error)))
        return None


def _as_json(arguments: list[str], code: int, message: str, remedy: str | None) -> dict[str, object]:
    return {
        "schema": "assay.result/1",
        "verb": arguments[0] if arguments else None,
        "records": [],
        "verdict": None,
        "best": None,
        "warnings": [],
        "error": {"exit_code": code, "message": message, "remedy": remedy},
    }
