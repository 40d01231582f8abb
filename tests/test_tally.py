"""Many rows at once are counted as one by one."""

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client import Histogram

from iris_api import instruments
from iris_api.classifier import Answer
from iris_api.tally import Bins, Bulk, Instruments, Tally, answered
from iris_api.training_profile import TrainingProfile


def _series(metric: Any) -> dict[tuple[str, tuple[tuple[str, str], ...]], float]:
    """Return what would be on the page, but for the time at which a series began."""
    return {
        (sample.name, tuple(sorted(sample.labels.items()))): sample.value
        for family in metric.collect()
        for sample in family.samples
        if not sample.name.endswith("_created")
    }


@given(st.lists(st.floats(0, 2) | st.sampled_from(instruments.CONFIDENCE.buckets), min_size=1))
def test_bulk_is_as_one_by_one(values: list[float]) -> None:
    """A histogram takes many values as prometheus_client takes each, at the bounds too."""
    bulk = instruments.histogram(instruments.CONFIDENCE)
    single = Histogram(
        "iris_prediction_confidence",
        "one by one",
        ["model_version"],
        registry=None,
        buckets=instruments.CONFIDENCE.buckets,
    )
    Bulk(bulk.labels("1")).observe(np.array(values))
    for value in values:
        single.labels("1").observe(value)

    assert _series(bulk) == pytest.approx(_series(single))


@given(st.lists(st.floats(0, 10), min_size=2, max_size=50))
def test_bins_are_those_of_the_profile(values: list[float]) -> None:
    """Whatever the training values are, they fill the bins with the profile's shares."""
    column = np.array(values)
    features = dict.fromkeys(("sepal_length", "sepal_width", "petal_length", "petal_width"), column)
    bins = Bins(TrainingProfile.of(features, ["a"] * len(values)).features["sepal_length"])

    counts = bins.count(np.append(column, [-1, 11]))

    assert len(set(bins.names)) == len(bins.names) == len(bins.expected) == len(counts)
    assert (bins.names[0], bins.names[-1]) == ("below", "above")
    assert counts[0] == counts[-1] == 1
    assert counts[1:-1] / len(values) == pytest.approx(np.array(bins.expected[1:-1]))


def test_a_model_that_says_little() -> None:
    """Without probabilities and a profile there are predictions and times, and no more."""
    model: Any = SimpleNamespace(
        version=3, classes=["a", "b"], has_probabilities=False, profile=None
    )
    counted = Instruments()
    answer = Answer(np.array([1, 1, 0]), None)
    Tally(model, counted).add([answered(np.ones((3, 4)), answer, 0.001)])

    assert _series(counted.predictions) == {
        ("iris_predictions_total", (("label", "a"), ("model_version", "3"))): 1,
        ("iris_predictions_total", (("label", "b"), ("model_version", "3"))): 2,
    }
    assert (
        _series(counted.inference)["iris_inference_seconds_count", (("model_version", "3"),)] == 1
    )
    assert _series(counted.confidence) == _series(counted.feature_rows) == {}


def test_probabilities_that_were_not_computed() -> None:
    """Where scikit-learn serves, a call for labels alone has no confidence; others have."""
    model: Any = SimpleNamespace(
        version=3, classes=["a", "b"], has_probabilities=True, profile=None
    )
    counted = Instruments()
    row, label = np.ones((1, 4)), np.array([1])
    Tally(model, counted).add(
        [
            answered(row, Answer(label, None), 0.001),
            answered(row, Answer(label, np.array([[0.25, 0.75]])), 0.001),
        ]
    )

    series = _series(counted.confidence)
    assert series["iris_prediction_confidence_count", (("model_version", "3"),)] == 1
    assert series["iris_prediction_confidence_sum", (("model_version", "3"),)] == 0.75
    assert sum(_series(counted.predictions).values()) == 2
