"""TorchScript, engine, and engine with dynamic batching behind a server, under 1 and 4 concurrent callers.

    python concurrency.py runs/vessel3d --total 300 --rounds 2

Needs ``OUT/torchscript`` and ``OUT/engine``, the two runs, and ``OUT/repository``, the engine's and TorchScript's
models for Triton.  Writes ``OUT/bench/SERVER-MODEL-ROUND.json``, what ``assay bench`` measured; every other round goes
through the models backwards, so that a machine that grows slower does not favour one.
"""

from __future__ import annotations

import argparse
import subprocess
from contextlib import AbstractContextManager
from pathlib import Path

from servers import ASSAY, assay_serve, triton, without_triton

MAX_BATCH = {"torchscript": 1, "engine": 1, "engine_batching": 8}


def served(server: str, name: str, out: Path) -> AbstractContextManager[str]:
    log = out / f"{server}.log"
    if server == "triton":
        return triton((out / "repository").resolve(), name, log)
    bundle = out / name.removesuffix("_batching") / "bundle"
    return assay_serve(bundle, name, MAX_BATCH[name], log)


def measure(url: str, total: int, to: Path, log: Path) -> None:
    """1 and 4 callers, each of which asks again when it has its answer."""
    command = [ASSAY, "bench", url, "--scenario", "clients", "--clients", "1:4:x4", "--total", str(total)]
    with log.open("ab") as err:
        subprocess.run([*command, "--json", str(to), "--quiet"], check=True, stdout=subprocess.DEVNULL, stderr=err)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("out", type=Path)
    parser.add_argument("--total", type=int, default=300, help="requests for each number of callers")
    parser.add_argument("--rounds", type=int, default=2)
    given = parser.parse_args()
    folder = given.out / "bench"
    folder.mkdir()
    servers = ["serve", "triton"]
    reason = without_triton()
    if reason:
        servers.remove("triton")
        (given.out / "skipped.txt").write_text(f"{reason}\n")
        print(f"triton: skipped, {reason}")
    for server in servers:
        for number in range(given.rounds):
            names = list(MAX_BATCH) if number % 2 == 0 else list(reversed(MAX_BATCH))
            for name in names:
                with served(server, name, given.out) as url:
                    to = folder / f"{server}-{name}-{number}.json"
                    measure(url, given.total, to, given.out / "stages.log")
                print(f"{server}, {name}, round {number + 1}: measured")


if __name__ == "__main__":
    main()
