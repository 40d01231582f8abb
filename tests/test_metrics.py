"""The metrics of a real service with two workers."""

import contextlib
import json
import re
import socket
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime
from pathlib import Path

import httpx
import numpy as np
import psutil
import pytest
from prometheus_client.mmap_dict import MmapedDict
from sklearn.datasets import load_iris
from support import documentation, servers
from support.scrape import Growth, Page, growth, scrape

from iris_api.home import lock
from iris_api.schema import FEATURES
from iris_api.serving.openapi import ERRORS
from iris_api.telemetry.instruments import INSTRUMENTS, REASONS
from iris_api.telemetry.recording import FLUSH_SECONDS
from iris_api.vetting.training_profile import TrainingProfile

SETOSA, VERSICOLOR = [5.1, 3.5, 1.4, 0.2], [6.7, 3.1, 4.7, 1.5]


@pytest.fixture(scope="module")
def observed(serve: servers.Serve) -> Iterator[servers.Server]:
    """Run a service with two workers and small limits."""
    with serve(IRIS_WORKERS="2", IRIS_MAX_BODY_BYTES="1MB") as server:
        servers.wait_for_starts(server, 2)
        yield server


def _predict(server: servers.Server, rows: object, call: str = "predict") -> httpx.Response:
    answer = httpx.post(f"{server.url}/{call}", json={"instances": rows}, timeout=30)
    assert answer.status_code == 200
    return answer


def _files(server: servers.Server) -> Path:
    """Return the folder of the metrics that the workers share."""
    return servers.metrics_folder(server.log.parent / "home")


def test_counts_of_predictions(observed: servers.Server) -> None:
    """Each row of each answered call is counted once, by version and label, in either call."""
    with growth(observed.url) as grown:
        for _ in range(10):
            _predict(observed, [SETOSA])
            _predict(observed, [SETOSA, VERSICOLOR, VERSICOLOR], "predict_proba")

    for label, count in {"setosa": 20, "versicolor": 20, "virginica": 0}.items():
        assert grown("iris_predictions_total", model_version="1", label=label) == count, label
    assert grown("iris_prediction_confidence_count", model_version="1") == 40
    assert grown("iris_inference_seconds_count", model_version="1") == 20
    assert 0 < grown("iris_inference_seconds_sum") < 20
    assert grown("iris_request_rows_count") == 20
    assert grown("iris_request_rows_sum") == 40
    assert grown("iris_request_rows_bucket", le="1.0") == 10
    assert grown("iris_request_rows_bucket", le="5.0") == 20


def test_a_page_has_all_that_was_answered_before(observed: servers.Server) -> None:
    """A call is on each page that is requested after its answer, whichever worker renders it."""
    start = scrape(observed.url).value("iris_predictions_total")
    for number in range(1, 31):
        _predict(observed, [SETOSA])
        assert scrape(observed.url).value("iris_predictions_total") == start + number


def test_nothing_is_counted_while_a_page_is_read(observed: servers.Server) -> None:
    """Workers answer while the files are locked, and count afterwards: no page has half a call."""
    before = _entries(observed)
    with lock(_files(observed)):
        _predict(observed, [SETOSA])
        time.sleep(4 * FLUSH_SECONDS)
        during = _entries(observed)
    after = scrape(observed.url)

    ours = {key for key in before if key[1].startswith('["iris_')}
    assert {key: during[key] for key in ours} == {key: before[key] for key in ours}
    assert after.value("iris_request_rows_count") == 1 + sum(
        value for (_, key), value in before.items() if '"iris_request_rows_bucket"' in key
    )


def test_confidence_is_the_highest_probability(observed: servers.Server) -> None:
    """The histogram has the highest probability of each row, in the right buckets."""
    with growth(observed.url) as grown:
        answer = _predict(observed, load_iris().data.tolist(), "predict_proba")

    tops = np.array(answer.json()["probabilities"]).max(axis=1)
    assert grown("iris_prediction_confidence_sum") == pytest.approx(tops.sum(), rel=1e-6)
    for bound in ("0.5", "0.8", "0.95", "1.0"):
        count = np.count_nonzero(tops <= float(bound))
        assert grown("iris_prediction_confidence_bucket", le=bound) == count, bound


def test_training_rows_fall_as_expected(observed: servers.Server, home: Path) -> None:
    """The training rows fill each bin with the share that is expected of it, so drift is none."""
    with growth(observed.url) as grown:
        _predict(observed, load_iris().data.tolist())
    after = grown.after

    (folder,) = home.glob("models/irismodel/v1-*/mlflow_model")
    profile = TrainingProfile.read(folder)
    assert profile
    for feature in FEATURES:
        expected = after.series("iris_feature_expected_ratio", model_version="1", feature=feature)
        assert list(expected.values()) == [0.0, *profile.features[feature].shares, 0.0]
        for key, ratio in expected.items():
            labels = {"model_version": "1", "feature": feature, "bin": dict(key)["bin"]}
            count = grown("iris_feature_rows_total", **labels)
            assert count == pytest.approx(150 * ratio), labels
    ratios = after.series("iris_label_expected_ratio", model_version="1")
    assert {dict(key)["label"]: ratio for key, ratio in ratios.items()} == profile.classes


@pytest.mark.parametrize(
    ("centimetres", "name"),
    [(4.2, "below"), (4.3, "4.3-4.8"), (4.8, "4.8-5"), (7.9, "6.9-7.9"), (7.91, "above")],
)
def test_edges_of_bins(observed: servers.Server, centimetres: float, name: str) -> None:
    """A bin has its lower edge and the last one both; outside of the profile are two more."""
    with growth(observed.url) as grown:
        _predict(observed, [[centimetres, *SETOSA[1:]]] * 3)

    labels = {"model_version": "1", "feature": "sepal_length"}
    assert grown("iris_feature_rows_total", **labels, bin=name) == 3
    assert grown("iris_feature_rows_total", **labels) == 3


def _begin_request(server: servers.Server) -> socket.socket:
    """Send a request, but for the end of its body."""
    connection = servers.connect(server)
    connection.sendall(servers.post(b"{", length=9))
    return connection


def test_rejections(observed: servers.Server) -> None:
    """A rejected call is counted by its reason, and not as a prediction."""
    url = f"{observed.url}/predict"
    before = scrape(observed.url)
    statuses = [
        httpx.post(url, content=b"{").status_code,
        httpx.post(url, json={"instances": [SETOSA]}, headers={"Content-Type": "x/y"}).status_code,
        httpx.post(url, content=b" " * 1_000_001).status_code,
        httpx.post(url, json={"instances": [[5] * 4] * 100_001}).status_code,
    ]
    _begin_request(observed).close()

    def rejected() -> dict[str, float]:
        grown = Growth(before, scrape(observed.url))
        counts = {
            reason: grown("iris_rejected_requests_total", reason=reason) for reason in REASONS
        }
        assert grown("iris_predictions_total") == 0
        return {reason: count for reason, count in counts.items() if count}

    servers.wait_for(lambda: "disconnected" in rejected())
    assert statuses == [400, 415, 413, 413]
    assert rejected() == {
        "invalid_body": 1,
        "unsupported_media_type": 1,
        "too_large": 2,
        "disconnected": 1,
    }


def test_sums_are_exact_under_load(observed: servers.Server) -> None:
    """While calls of 10 000 rows are counted, each page has whole calls, and no row is missing."""
    rows = np.resize(load_iris().data, (10_000, 4)).tolist()
    body = json.dumps({"instances": rows}).encode()

    def ask(_number: int) -> int:
        return httpx.post(f"{observed.url}/predict", content=body, timeout=60).status_code

    before = scrape(observed.url)
    pages: list[Page] = []
    with ThreadPoolExecutor(4) as pool:
        calls = [pool.submit(ask, number) for number in range(40)]
        while len(pages) < 3 or not all(call.done() for call in calls):
            pages.append(scrape(observed.url))
    at_last = [scrape(observed.url) for _ in range(10)]  # from both workers

    assert {call.result() for call in calls} == {200}
    for grown in (Growth(before, page) for page in [*pages, *at_last]):
        counted = grown("iris_predictions_total")
        assert counted % 10_000 == 0
        assert grown("iris_request_rows_sum") == counted
        assert grown("iris_prediction_confidence_count") == counted
        for feature in FEATURES:
            assert grown("iris_feature_rows_total", feature=feature) == counted, feature
    for grown in (Growth(before, page) for page in at_last):
        assert grown("iris_predictions_total") == 400_000
        assert grown("iris_inference_seconds_count") == 40


def _send_random(server: servers.Server, numbers: range) -> None:
    """Send requests with random paths, queries, methods and headers, on many connections."""
    methods = ("GET", "POST", "PUT", "OPTIONS", "DELETE")
    for start in range(numbers.start, numbers.stop, 100):
        with httpx.Client(base_url=server.url) as client:
            for number in range(start, start + 100):
                path = (f"/{number}", f"/predict/{number}", f"/static_content/{number}.js")
                answer = client.request(
                    methods[number % 5],
                    f"{path[number % 3]}?q={number}",
                    headers={"A": str(number)},
                )
                assert answer.status_code in {404, 405}


def _entries(server: servers.Server) -> dict[tuple[str, str], float]:
    """Return what the workers' files have, by file and key."""
    return {
        (path.name, key): value
        for path in _files(server).glob("*.db")
        for key, value, *_ in MmapedDict.read_all_values_from_file(str(path))
    }


@pytest.mark.parametrize("count", [2000, pytest.param(10_000, marks=pytest.mark.thorough)])
def test_random_paths_leave_nothing(observed: servers.Server, count: int) -> None:
    """Thousands of random URLs add no series, no entry to the workers' files and no memory."""
    _send_random(observed, range(1000))
    scrape(observed.url)  # after which all is counted
    entries = _entries(observed)
    memory = sum(worker.memory_info().rss for worker in servers.workers(observed))
    with growth(observed.url) as grown:
        _send_random(observed, range(10_000, 10_000 + count))

    workers = {name for name, key in entries if '"other"' in key and name.startswith("counter_")}
    assert len(workers) == 2
    names = {sample.name for family in grown.before.families for sample in family.samples}
    for name in names:
        assert grown.before.series(name).keys() == grown.after.series(name).keys()
    assert _entries(observed).keys() == entries.keys()
    more = sum(worker.memory_info().rss for worker in servers.workers(observed)) - memory
    assert more < 2 * 1024**2
    assert grown("bentoml_service_request_total", endpoint="other") == count


def test_known_paths_keep_their_label(observed: servers.Server) -> None:
    """Paths that are served are counted by themselves, with the status of their answer."""
    with growth(observed.url) as grown:
        statuses = {
            path: httpx.get(f"{observed.url}{path}").status_code
            for path in ("/health", "/model", "/docs.json", "/livez", "/readyz", "/predict")
        }
        _predict(observed, [SETOSA])

    for path, status in (*statuses.items(), ("/predict", 200)):
        labels = {"endpoint": path, "http_response_code": str(status)}
        assert grown("bentoml_service_request_total", **labels) == 1, path
    bounds = grown.after.labels("bentoml_service_request_duration_seconds_bucket", "le")
    assert {"0.00025", "0.0005", "0.001", "0.0025", "10.0", "+Inf"} <= bounds


def test_statuses_begin_at_zero(observed: servers.Server) -> None:
    """An error is on the page before it happens, so that Prometheus sees the first ones."""
    page = scrape(observed.url)

    for path in ("/predict", "/predict_proba"):
        series = page.series("bentoml_service_request_total", endpoint=path)
        found = {dict(labels)["http_response_code"] for labels in series}
        assert found == {"200", *map(str, ERRORS)}, path


def test_processes_of_the_service(observed: servers.Server) -> None:
    """Memory, files and start are those of the first process and its workers together."""
    parent = psutil.Process(observed.process.pid)
    processes = [parent, *servers.workers(observed)]
    page = scrape(observed.url)

    memory = sum(process.memory_info().rss for process in processes)
    assert page.value("process_resident_memory_bytes") == pytest.approx(memory, rel=0.1)
    files = sum(process.num_fds() for process in processes)
    assert page.value("process_open_fds") == pytest.approx(files, abs=8)
    assert page.value("process_start_time_seconds") == parent.create_time()
    seconds = sum(sum(process.cpu_times()[:2]) for process in processes)
    assert page.value("process_cpu_seconds_total") == pytest.approx(seconds, abs=2)


def test_a_killed_worker(observed: servers.Server) -> None:
    """A killed worker's gauges disappear; its counters and its processor time remain."""
    gauge = "bentoml_service_request_in_progress"
    victim, other = servers.workers(observed)
    connections: list[socket.socket] = []
    # Requests that do not end, until each worker has one.
    while not (servers.clients(victim) and (kept := servers.clients(other))):
        connections.append(_begin_request(observed))
        servers.wait_for(
            lambda: servers.clients(victim) + servers.clients(other) == len(connections)
        )
    before = scrape(observed.url)
    assert before.value(gauge, endpoint="/predict") == len(connections)

    victim.kill()
    seconds = [before.value("process_cpu_seconds_total")]
    servers.wait_for_starts(observed, 3)
    seconds += [scrape(observed.url).value("process_cpu_seconds_total") for _ in range(20)]
    after = scrape(observed.url)
    in_progress = after.value(gauge, endpoint="/predict")
    for connection in connections:
        connection.close()

    assert seconds == sorted(seconds)
    assert in_progress == kept
    servers.wait_for(lambda: scrape(observed.url).value(gauge, endpoint="/predict") == 0)
    pids = after.labels("bentoml_service_last_request_timestamp_seconds", "pid")
    assert pids <= {str(worker.pid) for worker in servers.workers(observed)}
    assert str(victim.pid) not in pids
    assert other.is_running()
    for name in ("iris_predictions_total", "iris_feature_rows_total", "iris_request_rows_count"):
        assert after.value(name) == before.value(name) > 0
    assert after.value("iris_model_info", model_version="1") == 1


def test_files_that_cannot_be_read(observed: servers.Server) -> None:
    """The page leaves out unreadable files, which is logged once, and gauges of no worker."""
    folder = _files(observed)
    worker = servers.workers(observed)[0].pid
    counted = next(folder.glob("counter_*.db")).read_bytes()
    before = scrape(observed.url)
    contents = {
        "counter_0.db": b"",
        "counter_1.db": counted[:9000],  # less than it says to have
        "histogram_1.db": counted[:5000] + bytes(len(counted) - 5000),
        f"irismodel_{worker}.json": b"[[",
        "irismodel_1.json": b"[[",
        "gauge_all_1.db": counted[:7],
        "x_y.db": b"?",
    }
    kept = {name: (folder / name).read_bytes() for name in contents if (folder / name).exists()}
    for name, content in contents.items():
        (folder / name).write_bytes(content)
    # One that is gone when it is opened, and two that even root can neither read nor remove.
    (folder / "counter_2.db").symlink_to("nowhere")
    (folder / "counter_3.db").mkdir()
    (folder / "gauge_livesum_3.db").mkdir()
    pages = [scrape(observed.url) for _ in range(6)]
    for name in (*contents, "counter_2.db"):
        (folder / name).unlink()
    for name in ("counter_3.db", "gauge_livesum_3.db"):
        (folder / name).rmdir()
    for name, content in kept.items():
        (folder / name).write_bytes(content)

    names = ("iris_predictions_total", "iris_request_rows_count", "iris_model_info", "iris_workers")
    for page in pages:
        for name in names:
            assert page.series(name) == before.series(name), name
    said = re.findall(r"/metrics leaves out the numbers in .*/(\S+): ", observed.log.read_text())
    assert set(said) == {
        *("counter_0.db", "counter_1.db", "counter_2.db", "counter_3.db", "histogram_1.db"),
        f"irismodel_{worker}.json",
    }
    assert max(Counter(said).values()) <= 2  # once for each worker


def test_the_model(observed: servers.Server) -> None:
    """The page has the model that answers, and when it was loaded."""
    known = httpx.get(f"{observed.url}/model").json()
    page = scrape(observed.url)

    ((labels, value),) = page.series("iris_model_info").items()
    assert value == 1
    assert dict(labels) == {
        "name": "IrisModel",
        "model_version": "1",
        "stage": "Production",
        "engine": "onnx",
        "digest": known["digest"],
        "run_id": known["run_id"],
    }
    loaded = page.value("iris_model_loaded_timestamp_seconds", model_version="1")
    started = psutil.Process(observed.process.pid).create_time()
    assert started < loaded < time.time()


@contextlib.contextmanager
def _polled(
    server: servers.Server, *, version: int | str = 7, error: str = "null"
) -> Iterator[None]:
    """Give the store this status of the registry, with a time as earlier versions wrote it."""
    file = server.log.parent / "home/registry/irismodel.json"
    file.parent.mkdir(exist_ok=True)
    file.write_text(
        f'{{"checked_at": 1700000000.5, "version": {version}, "error": {error}, "in_stage": [7]}}'
    )
    yield
    file.unlink()


def _scrape_after_poll(
    server: servers.Server, *, version: int | str = 7, error: str = "null"
) -> Page:
    """Scrape while the store has this status of the registry."""
    with _polled(server, version=version, error=error):
        return scrape(server.url)


def test_time_of_the_last_poll(observed: servers.Server) -> None:
    """GET /model has all times in one form, whichever the status has."""
    with _polled(observed):
        known = httpx.get(f"{observed.url}/model").json()

    times = (known["registry"]["checked_at"], known["imported_at"])
    assert times[0] == "2023-11-14T22:13:20.500000+00:00"
    assert times == tuple(datetime.fromisoformat(time).isoformat() for time in times)


def test_the_registry(observed: servers.Server) -> None:
    """The page has the last poll of the registry, once there was one."""
    absent = scrape(observed.url)
    answered = _scrape_after_poll(observed)
    failed = _scrape_after_poll(observed, error='"it is gone"')
    unreadable = _scrape_after_poll(observed, version=10**400)

    nothing = _scrape_after_poll(observed, version="null")

    assert nothing.series("iris_registry_version") == {}
    assert nothing.series("iris_registry_up") == {(): 1}
    assert nothing.series("iris_registry_version_found") == {(): 0}
    for name in ("up", "version", "version_found", "last_check_timestamp_seconds"):
        assert absent.series(f"iris_registry_{name}") == {}, name
        assert unreadable.series(f"iris_registry_{name}") == {}, name
    for page, up in ((answered, 1), (failed, 0)):
        assert page.series("iris_registry_up") == {(): up}
        assert page.series("iris_registry_version") == {(): 7}
        assert page.series("iris_registry_version_found") == {(): 1}
        assert page.series("iris_registry_stage_versions") == {(): 1}
        assert page.series("iris_registry_last_check_timestamp_seconds") == {(): 1700000000.5}


def test_metrics_are_documented(observed: servers.Server) -> None:
    """The table of docs/metrics.md, the code and the page of a service have the same metrics."""
    page = _scrape_after_poll(observed)

    table = {
        name.strip("`"): (kind, set(documentation.code(labels)), meaning)
        for name, kind, labels, meaning in documentation.table(
            documentation.PAGES["docs/metrics.md"], "metric"
        )
    }
    assert table == {each.name: (each.kind, set(each.labels), each.meaning) for each in INSTRUMENTS}
    shown = {
        family.name + "_total" * (family.type == "counter"): (
            family.type,
            set(family.samples[0].labels) - {"le"},
            family.documentation,
        )
        for family in page.families
        if not family.name.startswith("bentoml_")
    }
    assert shown == table
