"""The definition of every metric that this project adds.

BentoML's request metrics are counted in `bentoml_server/request_metrics.py`.

Labels have bounded sets of values, which docs/metrics.md explains.
"""

from typing import Literal, NamedTuple, get_args

from prometheus_client import Counter, Histogram
from prometheus_client.metrics_core import CounterMetricFamily, GaugeMetricFamily

Reason = Literal[
    "invalid_body",
    "unsupported_media_type",
    "too_large",
    "no_model",
    "unauthorized",
    "overloaded",
    "timeout",
    "disconnected",
    "no_probabilities",
    "unknown_model",
]
"""Why a prediction call was rejected."""

Result = Literal["success", "failure"]
"""Whether a newly activated model could be loaded."""

REASONS: tuple[Reason, ...] = get_args(Reason)
RESULTS: tuple[Result, ...] = get_args(Result)


class Instrument(NamedTuple):
    """One metric, as the page describes it."""

    kind: Literal["counter", "gauge", "histogram"]
    name: str
    meaning: str
    labels: tuple[str, ...] = ()
    buckets: tuple[float, ...] = ()


PREDICTIONS = Instrument(
    "counter",
    "iris_predictions_total",
    "Answered rows, by predicted label, or by the bin of a predicted number",
    ("model_version", "label"),
)
CONFIDENCE = Instrument(
    "histogram",
    "iris_prediction_confidence",
    "Highest class probability of each answered row, 0 to 1",
    ("model_version",),
    (0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 0.95, 0.99, 1.0),  # of three classes one has a third at least
)
FEATURE_ROWS = Instrument(
    "counter",
    "iris_feature_rows_total",
    "Answered rows, by the bin of a feature in the training profile",
    ("model_version", "feature", "bin"),
)
FEATURE_EXPECTED = Instrument(
    "gauge",
    "iris_feature_expected_ratio",
    "Share of the training rows in the bin, 0 to 1",
    ("model_version", "feature", "bin"),
)
LABEL_EXPECTED = Instrument(
    "gauge",
    "iris_label_expected_ratio",
    "Share of the training rows with the label, or with a prediction in the bin, 0 to 1",
    ("model_version", "label"),
)
REQUEST_ROWS = Instrument(
    "histogram",
    "iris_request_rows",
    "Rows of each answered prediction call",
    buckets=(1, 2, 5, 10, 20, 50, 100, 200, 500, 1000, 2000, 5000, 10_000, 20_000, 50_000, 100_000),
)
REJECTED = Instrument(
    "counter", "iris_rejected_requests_total", "Rejected prediction calls, by reason", ("reason",)
)
INFERENCE_SECONDS = Instrument(
    "histogram",
    "iris_inference_seconds",
    "Time of the model for all rows of a call, in seconds",
    ("model_version",),
    # ONNX Runtime takes 5 us for one row, and 80 ms for 100 000 rows of a forest of 100 trees.
    (1e-5, 2.5e-5, 5e-5, 1e-4, 2.5e-4, 5e-4, 1e-3, 2.5e-3, 5e-3, 0.01, 0.025, 0.05, 0.1, 0.25, 1),
)
MODEL_INFO = Instrument(
    "gauge",
    "iris_model_info",
    "1 for each model version that a worker serves now",
    ("name", "model_version", "stage", "engine", "digest", "run_id"),
)
MODEL_LOADED = Instrument(
    "gauge",
    "iris_model_loaded_timestamp_seconds",
    "Unix time at which the last worker loaded the model version, in seconds",
    ("model_version",),
)
MODEL_RELOADS = Instrument(
    "counter",
    "iris_model_reloads_total",
    "Models that workers loaded after an activation, by result",
    ("result",),
)
MODEL_DEGRADED = Instrument(
    "gauge", "iris_model_degraded", "1 if a worker cannot load the active version, 0 otherwise"
)
REGISTRY_UP = Instrument(
    "gauge", "iris_registry_up", "1 if the registry answered the last poll, 0 if it did not"
)
REGISTRY_CHECKED = Instrument(
    "gauge",
    "iris_registry_last_check_timestamp_seconds",
    "Unix time of the registry's last answer, in seconds",
)
REGISTRY_VERSION = Instrument(
    "gauge", "iris_registry_version", "Model version that the model URI meant in that answer"
)
REGISTRY_FOUND = Instrument(
    "gauge",
    "iris_registry_version_found",
    "1 if the model URI meant a version in that answer, 0 if it meant none",
)
REGISTRY_IN_STAGE = Instrument(
    "gauge",
    "iris_registry_stage_versions",
    "Model versions in the stage of the model URI in that answer, if it names one",
)
REGISTRY_INCOMPATIBLE = Instrument(
    "gauge",
    "iris_registry_incompatible_version",
    "That version, if it is not activated because its columns or labels differ, 0 otherwise",
)
WORKERS = Instrument("gauge", "iris_workers", "Living worker processes")
CPU_SECONDS = Instrument(
    "counter",
    "process_cpu_seconds_total",
    "Processor time of the service and all its workers, including ended ones, in seconds",
)
RESIDENT_BYTES = Instrument(
    "gauge",
    "process_resident_memory_bytes",
    "Resident memory of the service and its workers, in bytes; shared pages count in each",
)
OPEN_FILES = Instrument(
    "gauge", "process_open_fds", "Open file descriptors of the service and its workers"
)
START_TIME = Instrument(
    "gauge", "process_start_time_seconds", "Unix time of the service's start, in seconds"
)

INSTRUMENTS = tuple(value for value in list(globals().values()) if isinstance(value, Instrument))


def counter(instrument: Instrument) -> Counter:
    """Make a counter, which prometheus_client keeps in the files of this worker."""
    return Counter(*instrument[1:4], registry=None)


def histogram(instrument: Instrument) -> Histogram:
    """Make a histogram, which is kept as a counter is."""
    return Histogram(*instrument[1:4], registry=None, buckets=instrument.buckets)


def family(instrument: Instrument) -> CounterMetricFamily | GaugeMetricFamily:
    """Make the family of an instrument whose samples are computed for the page."""
    kind = CounterMetricFamily if instrument.kind == "counter" else GaugeMetricFamily
    return kind(instrument.name, instrument.meaning, labels=instrument.labels)
