"""The log and the traces of a service with a collector, an access log and a fault."""

import json
import os
import pty
import subprocess
import sys
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import httpx
import pytest
from support import servers
from support.scrape import scrape

from iris_api.settings import Settings

if TYPE_CHECKING:
    from collections.abc import Iterator

    from conftest import Tracking
    from mlflow import MlflowClient
    from mlflow.entities import Span

SETOSA, VIRGINICA = [5.1, 3.5, 1.4, 0.2], [6.512345, 3.0, 5.8, 2.2]
PARENT_SPAN = "00f067aa0ba902b7"
TRACE_ID = "bf92f3577b34da6a3ce929d0e0e"
"""The middle of each test's trace id."""

FAULT = """
import orjson
dumps = orjson.dumps
def fail(content, *arguments, **options):
    if content.get("predictions") == ["virginica"]:
        try:
            [][0]
        except IndexError:
            raise ZeroDivisionError([13 / 2, 3.0, 5.8, 2.2])
    return dumps(content, *arguments, **options)
orjson.dumps = fail
"""
"""Makes one answer fail to be written, with an error whose message contains the row."""


@dataclass(frozen=True)
class Traced:
    """A service, and the tracking server that collects its traces."""

    server: servers.Server
    collector: "MlflowClient"

    def ask(self, rows: list[list[float]], trace_id: str) -> httpx.Response:
        """Ask within a trace of the test."""
        headers = {"traceparent": f"00-{trace_id}-{PARENT_SPAN}-01"}
        return httpx.post(f"{self.server.url}/predict", json={"instances": rows}, headers=headers)

    def trace(self, trace_id: str, count: int) -> "dict[str, Span]":
        """Wait for the spans of a trace, and return them by name."""

        def found() -> "dict[str, Span]":
            traces = self.collector.search_traces(
                locations=["0"], filter_string=f"trace.request_id = 'tr-{trace_id}'"
            )
            return {span.name: span for trace in traces for span in trace.data.spans}

        servers.wait_for(lambda: len(found()) >= count)
        return found()

    def lines(self) -> list[dict[str, Any]]:
        """Parse the log, each line of which must be an object."""
        return [json.loads(line) for line in self.server.log.read_text().splitlines()]

    def content(self) -> str:
        """Return the log without its times, which may contain any digits."""
        return str([line | {"time": ""} for line in self.lines()])


@pytest.fixture(scope="module")
def traced(
    tracking: "Tracking", serve: servers.Serve, tmp_path_factory: pytest.TempPathFactory
) -> "Iterator[Traced]":
    """Run a service with one worker; MLflow's tracking server accepts OTLP."""
    from mlflow import MlflowClient  # noqa: PLC0415 (seconds)

    folder = tmp_path_factory.mktemp("traced")
    (folder / "sitecustomize.py").write_text(FAULT)
    variables = {
        "MLFLOW_TRACKING_URI": tracking.url,
        "IRIS_ACCESS_LOG": "true",
        "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT": f"{tracking.url}/v1/traces",
        "OTEL_EXPORTER_OTLP_ENDPOINT": "",
        "OTEL_EXPORTER_OTLP_HEADERS": "x-mlflow-experiment-id=0",
        "OTEL_TRACES_SAMPLER": "parentbased_always_off",
        "OTEL_PROPAGATORS": "tracecontext,b3",
        "OTEL_SPAN_EVENT_COUNT_LIMIT": "many",
        "OTEL_BSP_SCHEDULE_DELAY": "100",
        "PYTHONPATH": str(folder),
    }
    with serve(**variables) as server:
        yield Traced(server, MlflowClient(tracking.url))


@pytest.mark.parametrize("rows", [1, 2000], ids=["short", "in a thread"])
def test_spans_of_a_prediction(traced: Traced, rows: int) -> None:
    """A call has a span, and its three steps have spans in it, each with the model version."""
    trace_id = f"4{TRACE_ID}{rows:04}"
    answer = traced.ask([SETOSA] * rows, trace_id)
    spans = traced.trace(trace_id, 4)

    assert answer.status_code == 200
    assert spans.keys() == {"POST /predict", "parse", "inference", "serialize"}
    assert {span.attributes["model_version"] for span in spans.values()} == {1}
    request = spans.pop("POST /predict")
    assert request.parent_id == PARENT_SPAN
    assert {step.parent_id for step in spans.values()} == {request.span_id}
    steps = [spans[name] for name in ("parse", "inference", "serialize")]
    times = [(step.start_time_ns, step.end_time_ns or 0) for step in steps]
    ends = [request.start_time_ns, *(each for pair in times for each in pair)]
    assert ends == sorted(ends)
    assert ends[-1] <= (request.end_time_ns or 0)


def test_what_is_not_traced(traced: Traced) -> None:
    """Probes and scrapes have no spans, nor has a call that the sampler leaves out."""
    trace_id = f"5{TRACE_ID}4736"
    headers = {"traceparent": f"00-{trace_id}-{PARENT_SPAN}-01"}
    httpx.post(f"{traced.server.url}/predict", json={"instances": [SETOSA]})
    for path in ("/livez", "/readyz", "/health", "/metrics", "/model"):
        assert httpx.get(traced.server.url + path, headers=headers).status_code == 200
    spans = traced.trace(trace_id, 1)
    others = traced.collector.search_traces(locations=["0"])
    log = traced.server.log.read_text()

    assert spans.keys() == {"GET /model"}
    assert [each for each in others if TRACE_ID not in each.info.trace_id] == []
    assert log.count("OTEL_PROPAGATORS: ignoring b3, whose package is not installed") == 1
    assert log.count("OTEL_SPAN_EVENT_COUNT_LIMIT: ignoring 'many', which is not a number") == 1


@pytest.mark.parametrize(
    ("variables", "traced"),
    [
        ({}, False),
        ({"OTEL_EXPORTER_OTLP_ENDPOINT": "http://a:4318"}, True),
        ({"OTEL_EXPORTER_OTLP_TRACES_ENDPOINT": "http://a:4318/v1/traces"}, True),
        ({"OTEL_TRACES_EXPORTER": "console"}, True),
        ({"OTEL_CONFIG_FILE": "/otel.yaml"}, True),
        ({"OTEL_EXPORTER_OTLP_ENDPOINT": "http://a:4318", "OTEL_TRACES_EXPORTER": "None "}, False),
        ({"OTEL_EXPORTER_OTLP_ENDPOINT": "http://a:4318", "OTEL_SDK_DISABLED": "TRUE"}, False),
    ],
)
def test_whether_traces_are_made(variables: dict[str, str], traced: bool) -> None:
    """An endpoint or an exporter turns traces on, and OpenTelemetry's switches turn them off."""
    assert Settings.model_validate(variables).traced is traced


@pytest.mark.parametrize(
    ("variable", "value", "printed", "said"),
    [
        ("PROTOCOL", "grpc", "False", "no traces: Requested component 'otlp_proto_grpc' not found"),
        ("HEADERS", "Authorization Bearer hidden", "True", "Header format invalid!"),
    ],
)
def test_wrong_variable(
    plain_env: dict[str, str], variable: str, value: str, printed: str, said: str
) -> None:
    """Variables that OpenTelemetry cannot use are named in one line, without values of headers."""
    script = "import logging; logging.basicConfig(); from iris_api.telemetry import traces"
    env = plain_env | {f"OTEL_EXPORTER_OTLP_{variable}": value}
    done = servers.run("-c", f"{script}; print(bool(traces.export({{}})))", env=env)

    assert done.stdout == f"{printed}\n"
    (line,) = done.stderr.splitlines()
    assert said in line
    assert "hidden" not in line


def test_lines_of_the_log(traced: Traced) -> None:
    """Each line is an object; those of a call have its trace and model version, and no row."""
    trace_id = f"6{TRACE_ID}4736"
    traced.ask([[5.123, 3.5, 1.4, 0.2]], trace_id)
    wrong = httpx.post(f"{traced.server.url}/predict", json={"instances": [[5.123, "x", 1, 1]]})
    span = traced.trace(trace_id, 4)["POST /predict"]
    lines = traced.lines()

    assert wrong.status_code == 400
    for line in lines:
        assert list(line)[:5] == ["time", "level", "logger", "process", "message"]
        assert datetime.fromisoformat(line["time"]).utcoffset() is not None
    (access,) = [line for line in lines if line.get("trace_id") == trace_id]
    assert access["logger"] == "bentoml.access"
    assert "path=/predict" in access["message"]
    assert access["model_version"] == 1
    assert access["span_id"] == span.span_id
    (ready,) = [line for line in lines if line["message"] == "Service iris_api initialized"]
    assert ready["model_version"] == 1
    assert "trace_id" not in ready
    assert "5.123" not in traced.content()


def test_a_fault(traced: Traced) -> None:
    """A fault is answered with 500, counted, and logged on one line with its trace and version."""
    trace_id = f"7{TRACE_ID}4736"
    answer = traced.ask([VIRGINICA], trace_id)
    page = scrape(traced.server.url)

    assert answer.status_code == 500
    assert answer.json() == {"error": "the service failed; its log says why"}
    labels = {"endpoint": "/predict", "http_response_code": "500"}
    assert page.value("bentoml_service_request_total", **labels) == 1
    (line,) = [line for line in traced.lines() if "exception" in line]
    assert line["level"] == "error"
    traces = line["exception"].splitlines()
    types = [trace for trace in traces if not trace.startswith(" ")]
    assert types == ["IndexError", "ZeroDivisionError"]
    assert "in write_answer" in line["exception"]
    assert line["trace_id"] == trace_id
    assert line["model_version"] == 1
    assert "6.512345" not in traced.content()


def test_lines_on_a_terminal(plain_env: dict[str, str], tmp_path: Path) -> None:
    """On a terminal the lines are plain text."""
    script = (
        "import logging; from bentoml._internal.log import configure_server_logging;"
        "configure_server_logging(); from iris_api.telemetry import logs;"
        "logs.configure();"
        "logging.getLogger('bentoml.service').warning('like this'); logging.getLogger().error(1)"
    )
    env = plain_env | {"BENTOML_HOME": str(tmp_path)}
    ours, terminal = pty.openpty()
    subprocess.run(
        [sys.executable, "-c", script], env=env, stdout=terminal, stderr=terminal, check=True
    )

    first, second = os.read(ours, 4096).decode().splitlines()
    assert first.endswith("[WARNING] [] like this")
    assert second.endswith("[ERROR] [] 1")
