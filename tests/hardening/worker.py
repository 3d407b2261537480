"""The process that damaged files are given to: one case a line on stdin, one answer a line on stdout.

A case is ``{"argv": […]}``, a command line, or ``{"call": NAME, "path": FILE}``, a function of ``direct``.
"""

from __future__ import annotations

import contextlib
import io
import json
import os
import re
import resource
import sys
import traceback
from pathlib import Path
from typing import Any


def answer(case: dict[str, Any]) -> dict[str, Any]:
    """The exit code, what was said, and a traceback where something unforeseen was raised."""
    from tests.hardening import direct

    from assay.cli.main import run_cli
    from assay.core.errors import AssayError

    out, err = io.StringIO(), io.StringIO()
    code, broken = 0, None
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        try:
            if "argv" in case:
                code = run_cli(case["argv"])
            else:
                getattr(direct, case["call"])(case["path"])
        except AssayError as error:
            code = error.exit_code
            err.write(f"assay: {error.message}\n")
            if not error.message:
                broken = "an error without a message"
        except (Exception, SystemExit) as error:
            code, broken = 4, "".join(traceback.format_exception(error))[-3000:]
    said = (out.getvalue() + err.getvalue())[-3000:]
    if "internal failure" in said:
        log = re.search(r"log: (\S+)", said)
        broken = Path(log[1]).read_text()[-3000:] if log else said
    return {"code": code, "said": said, "broken": broken}


def main() -> None:
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    answers = os.fdopen(os.dup(1), "w")
    nothing = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nothing, 1)  # libraries print to the descriptors themselves
    os.dup2(nothing, 2)
    sys.stdout = sys.stderr = io.StringIO()
    for line in sys.stdin:
        answers.write(json.dumps(answer(json.loads(line))) + "\n")
        answers.flush()


if __name__ == "__main__":
    main()
