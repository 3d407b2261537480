"""The team a thread leaves behind is really gone after it was released."""

from __future__ import annotations

import subprocess
import sys

import pytest

pytest.importorskip("torch")

_SCRIPT = """
import os, torch
from assay.engines.openmp import release_idle_team
torch.set_num_threads(3)
def threads(): return len(os.listdir("/proc/self/task"))
torch.rand(64, 64) @ torch.rand(64, 64)
torch.rand(2_000_000).exp_()
with_team = threads()
done = release_idle_team()
after = threads()
again = torch.ones(2_000_000).add_(1).sum().item()
print(with_team, int(done), after, int(again), threads())
"""


def test_the_calling_threads_team_is_released_and_made_anew_when_needed() -> None:
    said = subprocess.run([sys.executable, "-c", _SCRIPT], capture_output=True, text=True, check=True, timeout=120)
    with_team, done, after, total, again = map(int, said.stdout.split())
    if not done:
        pytest.skip("this torch brings no GNU OpenMP library")
    assert with_team - after == 2
    assert total == 4_000_000
    assert again == with_team
