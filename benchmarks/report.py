"""The figures of "How we test": runs, kept with machine, versions and date, and their tables.

``python benchmarks/report.py --sections em components coverage calibration`` runs sections and
writes ``benchmarks/results/SECTION.json``; ``--tables`` prints what is stored as Markdown, and runs
nothing. ``benchmarks/figures.py`` draws the pictures from the same files.

``em``           time of an iteration of scikit-learn's ``GaussianMixture`` over ours (``em.py``)
``components``   that of StepMix over ours, bits and categories (``components.py``; needs StepMix)
``coverage``     default fits of simulated problems against long runs, which are stored in
                 ``coverage_references.json`` (``evidence.py --sections coverage`` makes them)
``calibration``  ranks of the truth among draws, with the sampler of sampled mixtures and with one
                 that lacks a term (``tests/test_calibration.py``)

Runs are smaller than those of the single benchmarks: some minutes a section on one thread. Times
are of the processor or ratios of alternating runs, since other work on the machine disturbs these
less.
"""

from __future__ import annotations

import argparse
import datetime
import json
import os
import platform
import sys
import time
import warnings
from importlib import metadata
from pathlib import Path

import numpy as np
from sklearn.exceptions import ConvergenceWarning
from threadpoolctl import threadpool_info, threadpool_limits

HERE = Path(__file__).parent
RESULTS = HERE / "results"
PACKAGES = ("skbae", "numpy", "scipy", "scikit-learn", "stepmix")


def circumstances():
    """Return machine, versions and date of a run."""
    processor = platform.processor() or platform.machine()
    if Path("/proc/cpuinfo").exists():
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        processor = next(
            (li.split(":")[1].strip() for li in lines if "model name" in li), processor
        )
    versions = {"python": platform.python_version()}
    for name in PACKAGES:
        try:
            versions[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    blas = {pool.get("architecture") for pool in threadpool_info() if pool["user_api"] == "blas"}
    return {
        "date": datetime.datetime.now(datetime.UTC).date().isoformat(),
        "machine": f"{processor}, {os.cpu_count()} cores, shared with other work",
        "blas": ", ".join(sorted(filter(None, blas))),
        "versions": versions,
    }


# -- sections --------------------------------------------------------------------------------------


def processor_seconds(function, *args):
    begin = time.process_time()  # of one thread
    function(*args)
    return time.process_time() - begin


def ratios_of(times):
    """Return medians in milliseconds and the ratios of turns, of their times and ours."""
    theirs, ours = np.array(times).T
    ratios = theirs / ours
    return {
        "theirs_ms": 1e3 * np.median(theirs),
        "ours_ms": 1e3 * np.median(ours),
        "ratio": np.median(ratios),
        "least": ratios.min(),
        "largest": ratios.max(),
    }


def run_em(options):
    """Return a row for each setting of ``em.py``."""
    from em import SETTINGS, SHORT, fit_ours, fit_theirs, problem

    rows = []
    for setting in SETTINGS:
        X, start = problem(setting)
        times = []
        for _ in range(options.repetitions):
            turn = []
            for fit in (fit_theirs, fit_ours):
                short, long = (
                    processor_seconds(fit, X, start, setting, SHORT + more)
                    for more in (0, setting.iterations)
                )
                turn.append((long - short) / setting.iterations)
            times.append(turn)
        rows.append({"setting": " ".join(str(setting).split()), **ratios_of(times)})
        print(rows[-1], flush=True)
    return rows


def run_components(options):
    """Return a row for bits and one for categories."""
    from components import STEPS, data, ours, stepmix

    rows = []
    for kind in ("bernoulli", "categorical"):
        X = data(kind, 100_000, 20, 5)
        times = []
        for _ in range(options.repetitions):
            turn = []
            for make in (stepmix, ours):
                fits = [make(kind, 5, n) for n in (1, 1 + STEPS)]
                short, long = (processor_seconds(model.fit, X) for model in fits)
                turn.append((long - short) / STEPS)
            times.append(turn)
        rows.append({"kind": kind, **ratios_of(times)})
        print(rows[-1], flush=True)
    return rows


def run_coverage(options):
    """Return a row for each simulated problem."""
    from evidence import References, one_simulated

    references = References(HERE / "coverage_references.json")
    rows = []
    for number in range(options.problems):
        row = one_simulated(number, references)
        row.pop("estimates", None)
        rows.append({key: round(v, 4) if isinstance(v, float) else v for key, v in row.items()})
        print(*rows[-1].values(), flush=True)
    return rows


def run_calibration(options):
    """Return ranks of the truth by name of a statistic, of the right sampler and of a wrong one."""
    import pytest

    sys.path.insert(0, str(HERE.parent / "tests"))
    from test_calibration import PRIORS, ranks, without_shrinkage

    prior, n_rows = PRIORS["tied-K3-D1"]
    right = ranks(prior, n_rows, options.sets, seed=2)
    with pytest.MonkeyPatch.context() as patch:
        without_shrinkage(patch)
        wrong = ranks(prior, n_rows, options.sets, seed=2)
    names = ("mean energy", "log determinant", "largest weight", "mean", "log variance")
    return [
        {"sampler": name, "statistic": statistic, "ranks": np.round(column, 4).tolist()}
        for name, found in (("right", right), ("without shrinkage", wrong))
        for statistic, column in zip(names, found.T, strict=True)
    ]


SECTIONS = {
    "em": run_em,
    "components": run_components,
    "coverage": run_coverage,
    "calibration": run_calibration,
}


# -- tables ----------------------------------------------------------------------------------------


def table_of_em(rows):
    yield "| rows, columns, components | covariances | sklearn, ms | ours, ms | ratio | range |"
    yield "|---|---|---|---|---|---|"
    for row in rows:
        size, rest = row["setting"].split(", K=")
        components, kind, dtype = rest.split()
        size = size.replace(" x ", ", ")
        single = ", float32" if dtype == "float32" else ""
        yield (
            f"| {size}, {components} | {kind}{single} | {row['theirs_ms']:.1f} | "
            f"{row['ours_ms']:.1f} | {row['ratio']:.1f} | "
            f"{row['least']:.1f} to {row['largest']:.1f} |"
        )
    ratios = np.array([row["ratio"] for row in rows])
    yield ""
    mean = np.exp(np.log(ratios).mean())
    yield f"Geometric mean of the ratios {mean:.1f}, least {ratios.min():.1f}."


def table_of_components(rows):
    yield "| columns | StepMix, ms | skbae, ms | ratio | range |"
    yield "|---|---|---|---|---|"
    names = {"bernoulli": "20 of bits", "categorical": "20 of four categories"}
    for row in rows:
        yield (
            f"| {names[row['kind']]} | {row['theirs_ms']:.1f} | {row['ours_ms']:.1f} | "
            f"{row['ratio']:.1f} | {row['least']:.1f} to {row['largest']:.1f} |"
        )


def standardised_errors(rows):
    """Return differences over joint errors, at least .002 nats, where both fits are "ok"."""
    good = [row for row in rows if row["status"] == row["reference_status"] == "ok"]
    return np.array([row["difference"] / max(row["joint_error"], 2e-3) for row in good])


def table_of_coverage(rows):
    ok = [row for row in rows if row["status"] == "ok"]
    beyond = np.abs(standardised_errors(rows))
    yield "| | |"
    yield "|---|---|"
    yield f'| status "ok" | {len(ok)} of {len(rows)} |'
    yield f'| compared with a long run that is "ok" as well | {len(beyond)} |'
    for limit in (1, 2, 3, 4):
        errors = f"{limit} standard errors" if limit > 1 else "1 standard error"
        yield f"| further off than {errors} | {(beyond > limit).sum()} |"
    yield f"| standard error, median | {np.median([row['error'] for row in ok]):.3f} nats |"
    yield f"| processor time, median | {np.median([row['seconds'] for row in rows]):.1f} s |"
    yield f"| processor time, 90% | {np.quantile([row['seconds'] for row in rows], 0.9):.1f} s |"


def table_of_calibration(rows):
    sys.path.insert(0, str(HERE.parent / "tests"))
    from _calibration import p_values

    yield "| statistic | least p, right sampler | least p, without the term |"
    yield "|---|---|---|"
    found = {}
    for row in rows:
        least = p_values(np.array(row["ranks"])[:, None]).min()
        found.setdefault(row["statistic"], []).append(least)
    for statistic, least in found.items():
        yield f"| {statistic} | " + " | ".join(f"{p:.2g}" for p in least) + " |"


TABLES = {
    "em": table_of_em,
    "components": table_of_components,
    "coverage": table_of_coverage,
    "calibration": table_of_calibration,
}


def stored(section):
    """Return what a run has stored."""
    return json.loads((RESULTS / f"{section}.json").read_text())


def written(circumstances):
    """Return machine, versions and date as a sentence."""
    versions = ", ".join(f"{name} {value}" for name, value in circumstances["versions"].items())
    return (
        f"{circumstances['date']}, {circumstances['machine']} (BLAS for {circumstances['blas']}); "
        f"{versions}; {circumstances['seconds']:.0f} s."
    )


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--sections", nargs="*", choices=SECTIONS, default=list(SECTIONS))
    parser.add_argument("--tables", action="store_true", help="print what is stored")
    parser.add_argument("--repetitions", type=int, default=3, help="of alternating timed fits")
    parser.add_argument("--problems", type=int, default=200, help="of the coverage")
    parser.add_argument("--sets", type=int, default=400, help="sets of rows of the calibration")
    options = parser.parse_args()
    if not options.tables:
        RESULTS.mkdir(exist_ok=True)
        warnings.simplefilter("ignore", ConvergenceWarning)  # tol=0, and the status is stored
        for section in options.sections:
            begin = time.perf_counter()
            with threadpool_limits(1):
                rows = SECTIONS[section](options)
            about = {**circumstances(), "seconds": time.perf_counter() - begin}
            body = ",\n".join(json.dumps(row) for row in rows)
            (RESULTS / f"{section}.json").write_text(
                f'{{"circumstances": {json.dumps(about)},\n"rows": [\n{body}\n]}}\n'
            )
    for section in options.sections:
        found = stored(section)
        print(f"\n### {section}\n\n{written(found['circumstances'])}\n")
        print("\n".join(TABLES[section](found["rows"])))


if __name__ == "__main__":
    main()
