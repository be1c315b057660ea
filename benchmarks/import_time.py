"""Time that ``import skbae`` takes on top of importing ``sklearn.mixture``.

Run ``python benchmarks/import_time.py``: the median over fresh processes, against a limit of 50 ms.
"""

from __future__ import annotations

import statistics
import subprocess
import sys

LIMIT = 50  # ms
PROCESSES = 15
CODE = """
import time
import sklearn.mixture
begin = time.perf_counter()
import skbae
print(1e3 * (time.perf_counter() - begin))
"""


def main():
    command = [sys.executable, "-c", CODE]
    subprocess.run(command, check=True, capture_output=True)  # compiles the modules
    times = [
        float(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
        for _ in range(PROCESSES)
    ]
    print(f"import skbae after sklearn.mixture: median {statistics.median(times):.1f} ms", end=" ")
    print(f"({min(times):.1f}-{max(times):.1f}) of {PROCESSES} processes; limit {LIMIT} ms")


if __name__ == "__main__":
    main()
