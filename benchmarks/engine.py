"""Measure a single row of each kind of estimator in ONNX Runtime, and print a table.

The estimators are those of the tests: `PYTHONPATH=tests python -m benchmarks.engine`.
"""

import time
import warnings

import numpy as np
from sklearn.datasets import load_iris
from support.estimators import ESTIMATORS

from iris_api.compiling.converters.lookup import convert
from iris_api.model.engines import open_session

RUNS = 1000


def main() -> None:
    """Fit, convert and measure each kind; the median in microseconds, the slowest kind first."""
    rows, labels = load_iris(return_X_y=True)
    found = []
    for name, estimator in ESTIMATORS.items():
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of the training
            model = convert(estimator.fit(rows, labels)).SerializeToString()
        session = open_session(model)
        row = {"rows": rows[:1]}
        seconds = []
        for _ in range(RUNS):
            start = time.perf_counter()
            session.run(None, row)
            seconds.append(time.perf_counter() - start)
        found.append((1e6 * float(np.median(seconds)), name))
    print(f"median of {RUNS} runs of one row, in microseconds")
    for microseconds, name in sorted(found, reverse=True):
        print(f"{microseconds:8.1f}  {name}")


if __name__ == "__main__":
    main()
