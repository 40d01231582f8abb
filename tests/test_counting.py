"""Many rows at once are counted as one by one."""

import gc
import sys
from collections.abc import Callable
from types import FrameType, SimpleNamespace
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.datasets import load_iris
from support.tables import IRISES

from iris_api.model.engines import Answer
from iris_api.schema import FEATURES
from iris_api.telemetry import instruments
from iris_api.telemetry.counting import (
    AnsweredCall,
    Bins,
    BulkHistogram,
    Instruments,
    VersionCounters,
)
from iris_api.vetting.training_profile import TrainingProfile

IRIS = load_iris()


def _series(metric: Any) -> dict[tuple[str, tuple[tuple[str, str], ...]], float]:
    """Return the samples of a page, except when each series was created."""
    return {
        (sample.name, tuple(sorted(sample.labels.items()))): sample.value
        for family in metric.collect()
        for sample in family.samples
        if not sample.name.endswith("_created")
    }


@given(st.lists(st.floats(0, 2) | st.sampled_from(instruments.CONFIDENCE.buckets), min_size=1))
def test_bulk_is_as_one_by_one(values: list[float]) -> None:
    """A histogram counts many values as prometheus_client counts each, at the bounds too."""
    bulk = instruments.histogram(instruments.CONFIDENCE)
    single = instruments.histogram(instruments.CONFIDENCE)
    BulkHistogram(bulk.labels("1")).observe(np.array(values))
    for value in values:
        single.labels("1").observe(value)

    assert _series(bulk) == pytest.approx(_series(single))


@given(st.lists(st.floats(0, 10), min_size=2, max_size=50))
def test_bins_are_those_of_the_profile(values: list[float]) -> None:
    """Whatever the training values are, they fill the bins with the profile's shares."""
    column = np.array(values)
    features = dict.fromkeys(FEATURES, column)
    bins = Bins.of_feature(
        TrainingProfile.of(features, ["a"] * len(values)).features["sepal_length"]
    )

    counts = bins.count(np.append(column, [-1, 11, np.nan]))  # a missing value is in no bin

    assert len(set(bins.names)) == len(bins.names) == len(bins.expected) == len(counts)
    assert (bins.names[0], bins.names[-1]) == ("below", "above")
    assert counts[0] == counts[-1] == 1
    assert counts[1:-1] / len(values) == pytest.approx(np.array(bins.expected[1:-1]))


def _steps(function: Callable[[], object]) -> int:
    """Count the lines of Python that a function goes through, in whatever it calls."""
    count = 0

    def trace(_frame: FrameType, event: str, _argument: object) -> Any:
        nonlocal count
        count += event == "line"
        return trace

    before = sys.gettrace()
    gc.disable()  # hypothesis has a callback for it, whose lines would count
    sys.settrace(trace)
    try:
        function()
    finally:
        sys.settrace(before)
        gc.enable()
    return count


def _model(
    classes: list[Any], profile: TrainingProfile | None = None, *, probabilities: bool = True
) -> Any:
    return SimpleNamespace(
        version=3,
        classes=classes,
        has_probabilities=probabilities,
        profile=profile,
        schema=IRISES,
    )


def _count(model: Any, *answers: Answer) -> Instruments:
    """Count calls whose rows are all ones."""
    counted = Instruments()
    calls = [AnsweredCall(np.ones((len(each.values), 4)), each, 0.001) for each in answers]
    VersionCounters(model, counted).add(calls)
    return counted


def test_no_loop_over_rows() -> None:
    """A call of 150 000 rows takes as many steps of Python as one of 150."""
    rows, labels = IRIS.data, IRIS.target
    profile = TrainingProfile.of(dict(zip(FEATURES, rows.T, strict=True)), labels)
    counters = VersionCounters(_model([0, 1, 2], profile), Instruments())
    few, many = (
        AnsweredCall(
            np.tile(rows, (times, 1)),
            Answer(np.tile(labels, times), np.full((150 * times, 3), 1 / 3)),
            0.001,
        )
        for times in (1, 1000)
    )

    steps = _steps(lambda: counters.add([few]))

    assert _steps(lambda: counters.add([many])) == steps


def test_a_model_without_probabilities_and_profile() -> None:
    """Such a model has predictions and times, and no more."""
    counted = _count(_model(["a", "b"], probabilities=False), Answer(np.array([1, 1, 0]), None))

    assert _series(counted.predictions) == {
        ("iris_predictions_total", (("label", "a"), ("model_version", "3"))): 1,
        ("iris_predictions_total", (("label", "b"), ("model_version", "3"))): 2,
    }
    seconds = _series(counted.inference)
    assert seconds["iris_inference_seconds_count", (("model_version", "3"),)] == 1
    assert _series(counted.confidence) == _series(counted.feature_rows) == {}


@pytest.mark.parametrize(
    "answers",
    [
        # A row whose probabilities are not numbers.
        [Answer(np.array([0, 1]), np.array([[np.nan, np.nan], [0.25, 0.75]]))],
        # scikit-learn computes none for a call of /predict.
        [Answer(np.array([1]), None), Answer(np.array([1]), np.array([[0.25, 0.75]]))],
    ],
    ids=["not a number", "not computed"],
)
def test_unknown_probabilities(answers: list[Answer]) -> None:
    """A row without probabilities has no confidence, and does not change that of others."""
    counted = _count(_model(["a", "b"]), *answers)

    series = _series(counted.confidence)
    assert series["iris_prediction_confidence_count", (("model_version", "3"),)] == 1
    assert series["iris_prediction_confidence_sum", (("model_version", "3"),)] == 0.75
    assert sum(_series(counted.predictions).values()) == 2
