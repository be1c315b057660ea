"""Time that importing skbae takes on top of importing ``sklearn.mixture``.

Run ``python benchmarks/import_time.py``: medians over fresh processes, of the package alone (limit
50 ms) and of the package with one estimator, since a family is loaded when it is first asked for.
"""

from __future__ import annotations

import statistics
import subprocess
import sys

import skbae

LIMIT = 50  # ms
PROCESSES = 15
CODE = """
import time
import sklearn.mixture
begin = time.perf_counter()
{statement}
print(1e3 * (time.perf_counter() - begin))
"""


def milliseconds(statement):
    """Return the times of the statement in fresh processes."""
    command = [sys.executable, "-c", CODE.format(statement=statement)]
    subprocess.run(command, check=True, capture_output=True)  # compiles the modules
    return [
        float(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
        for _ in range(PROCESSES)
    ]


def main():
    print(f"after sklearn.mixture, {PROCESSES} processes; limit of the first {LIMIT} ms")
    names = [name for name in skbae.__all__ if name.startswith("Bayesian")]
    for statement in ("import skbae", *(f"from skbae import {name}" for name in names)):
        times = milliseconds(statement)
        print(
            f"{statement:50s} {statistics.median(times):6.1f} ms "
            f"({min(times):.1f}-{max(times):.1f})",
            flush=True,
        )


if __name__ == "__main__":
    main()
