"""Failures of the system in words that are true of them."""

import errno
import os

import pytest

from assay.cli.failures import report_failure


@pytest.mark.parametrize(
    ("number", "code", "says", "remedy"),
    [
        (errno.ENOSPC, 4, "cannot write (No space left on device): a.onnx", "free some room"),
        (errno.EACCES, 4, "cannot read or write (Permission denied): a.onnx", "who may read and write"),
        (errno.ENOTDIR, 2, "is none: Not a directory: a.onnx", "check the names"),
    ],
)
def test_a_file_that_may_not_be_read_is_no_full_disk(number, code, says, remedy, capsys) -> None:
    assert report_failure(OSError(number, os.strerror(number), "a.onnx"), ["inspect", "a.onnx"]) == code
    told = capsys.readouterr().err
    assert says in told
    assert remedy in told
