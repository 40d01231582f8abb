"""Every metric of ours: its type, labels, meaning and buckets. BentoML's own are not here.

The labels, all of them from bounded sets:

- `model_version`: of the registry, as `X-Model-Version` has it; each version that a service has
  answered with since its start keeps its counters, so that none of them ever falls.
- `label`: a class of the model, as text.
- `feature`: one of the four of the contract.
- `bin`: where the value lies in the model's training profile: `below` its smallest value, `above`
  its largest, or between two edges in centimetres, such as `5-5.2`. A bin has its lower edge, the
  last one both.
- `reason`, `result`: the members of `Reason` and `Result`.
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
]
"""Why a prediction call was refused."""

Result = Literal["success", "failure"]
"""How loading what was activated ended."""

REASONS: tuple[Reason, ...] = get_args(Reason)
RESULTS: tuple[Result, ...] = get_args(Result)


class Instrument(NamedTuple):
    """One metric, as its page describes it."""

    kind: Literal["counter", "gauge", "histogram"]
    name: str
    meaning: str
    labels: tuple[str, ...] = ()
    buckets: tuple[float, ...] = ()


PREDICTIONS = Instrument(
    "counter",
    "iris_predictions_total",
    "Rows that were answered, by their predicted label",
    ("model_version", "label"),
)
CONFIDENCE = Instrument(
    "histogram",
    "iris_prediction_confidence",
    "The highest of a row's class probabilities, 0 to 1",
    ("model_version",),
    (0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 0.95, 0.99, 1.0),  # with three classes it is a third at least
)
FEATURE_ROWS = Instrument(
    "counter",
    "iris_feature_rows_total",
    "Rows that were answered, by where a feature lies in the training profile",
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
    "Share of the training rows with the label, 0 to 1",
    ("model_version", "label"),
)
REQUEST_ROWS = Instrument(
    "histogram",
    "iris_request_rows",
    "Rows of a prediction call that was answered",
    buckets=(1, 2, 5, 10, 20, 50, 100, 200, 500, 1000, 2000, 5000, 10_000, 20_000, 50_000, 100_000),
)
REJECTED = Instrument(
    "counter",
    "iris_rejected_requests_total",
    "Prediction calls that were refused, by the reason",
    ("reason",),
)
INFERENCE_SECONDS = Instrument(
    "histogram",
    "iris_inference_seconds",
    "Time that the model took for all rows of a call, in seconds",
    ("model_version",),
    # One row takes ONNX Runtime 5 us, 100 000 rows of a forest of 100 trees 80 ms.
    (1e-5, 2.5e-5, 5e-5, 1e-4, 2.5e-4, 5e-4, 1e-3, 2.5e-3, 5e-3, 0.01, 0.025, 0.05, 0.1, 0.25, 1),
)
MODEL_INFO = Instrument(
    "gauge",
    "iris_model_info",
    "1 for each model version that a worker answers with now",
    ("name", "model_version", "stage", "engine", "digest", "run_id"),
)
MODEL_LOADED = Instrument(
    "gauge",
    "iris_model_loaded_timestamp_seconds",
    "When the last of the workers loaded the model version, as Unix time in seconds",
    ("model_version",),
)
MODEL_RELOADS = Instrument(
    "counter",
    "iris_model_reloads_total",
    "Models loaded while serving, after an activation, by each worker, by their result",
    ("result",),
)
REGISTRY_UP = Instrument(
    "gauge",
    "iris_registry_up",
    "1 when the registry answered the last look at it, 0 when it did not",
)
REGISTRY_CHECKED = Instrument(
    "gauge",
    "iris_registry_last_check_timestamp_seconds",
    "When the registry last answered a look at it, as Unix time in seconds",
)
REGISTRY_VERSION = Instrument(
    "gauge",
    "iris_registry_version",
    "Model version that the model URI meant in the registry then",
)
WORKERS = Instrument(
    "gauge",
    "iris_workers",
    "Worker processes that live",
)
CPU_SECONDS = Instrument(
    "counter",
    "process_cpu_seconds_total",
    "Processor time of the service and all its workers, ended ones too, in seconds",
)
RESIDENT_BYTES = Instrument(
    "gauge",
    "process_resident_memory_bytes",
    "Resident memory of the service and its workers, in bytes; what they share counts in each",
)
OPEN_FILES = Instrument(
    "gauge",
    "process_open_fds",
    "Open file descriptors of the service and its workers",
)
START_TIME = Instrument(
    "gauge",
    "process_start_time_seconds",
    "When the service was started, as Unix time in seconds",
)

INSTRUMENTS = tuple(value for value in list(globals().values()) if isinstance(value, Instrument))


def counter(instrument: Instrument) -> Counter:
    """Make a counter that is kept in this worker's files, where each worker's page reads it."""
    return Counter(instrument.name, instrument.meaning, instrument.labels, registry=None)


def histogram(instrument: Instrument) -> Histogram:
    """Make a histogram that is kept as a counter is."""
    return Histogram(
        instrument.name,
        instrument.meaning,
        instrument.labels,
        registry=None,
        buckets=instrument.buckets,
    )


def family(instrument: Instrument) -> CounterMetricFamily | GaugeMetricFamily:
    """Make what holds the samples of an instrument that is computed for the page."""
    kind = CounterMetricFamily if instrument.kind == "counter" else GaugeMetricFamily
    return kind(instrument.name, instrument.meaning, labels=instrument.labels)
