from __future__ import annotations

import logging
import os
import sys
import warnings

import pytest

from assay.graph.quiet import quiet


def test_all_that_is_said_is_collected_and_nothing_leaks(capfd) -> None:
    with quiet(["noisy"]) as chatter:
        print("to stdout")
        print("to stderr", file=sys.stderr)
        os.write(2, b"from below\n")
        logging.getLogger("noisy.child").warning("from a logger")
        warnings.warn("once", UserWarning, stacklevel=1)
        warnings.warn("twice", UserWarning, stacklevel=1)
    assert capfd.readouterr() == ("", "")
    for said in ("to stdout", "to stderr", "from below", "from a logger", "once", "twice"):
        assert said in chatter.text
    assert len(chatter.warnings) == 2
    assert "test_quiet.py" in chatter.warnings[0]


def test_errors_come_through_and_everything_is_restored(capfd) -> None:
    stdout, level = sys.stdout, logging.getLogger("noisy").propagate
    with pytest.raises(ValueError, match="mine"), quiet(["noisy"]) as chatter:
        print("before")
        raise ValueError("mine")
    assert "before" in chatter.text
    assert sys.stdout is stdout and logging.getLogger("noisy").propagate is level
    print("after")
    os.write(2, b"err\n")
    assert capfd.readouterr() == ("after\n", "err\n")
