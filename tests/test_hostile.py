"""Attacks by a registry fail: no code runs, no login leaves, and the store stays as it was."""

import itertools
import json
import os
import pickle
import re
import zipfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import skops.io
import yaml
from sklearn.datasets import load_iris
from sklearn.kernel_approximation import RBFSampler
from sklearn.linear_model import LogisticRegression, SGDClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer
from sklearn.svm import SVC
from support import servers, warm
from support.fake_registry import VERSION, FakeRegistry, cut_off, endless, fake_registry

from iris_api.schema import FEATURES

pytestmark = pytest.mark.thorough

PASSWORD = "hunter2-of-the-registry"
URI = "models:/IrisModel/1"

AGAIN = "log the model again with mlflow.sklearn.log_model"
AS_SKOPS = (
    'log the model again with mlflow.sklearn and serialization_format="skops" '
    "(MLflow 3.9 or later; autolog, too, writes cloudpickle unless it is given this)"
)
OWN = (
    "train it with scikit-learn's own estimators, without own functions, unusual metrics "
    "or sparse matrices, and log only what predicts: of a search its best_estimator_, without "
    "callbacks"
)
CODE = (
    "the model brings its own Python code, which is never run here; log it again without code_paths"
)
FOREIGN = f"the model asks for types that are not trusted: posix.system; {OWN}"
NO_ARCHIVE = (
    "the model file is not a sound skops archive (BadZipFile: File is not a zip file); "
    "log and register the model again"
)
NO_YAML = f"the MLmodel file is not valid YAML; {AGAIN}"
LARGE = (
    "the model has TOTAL bytes and IRIS_IMPORT_MAX_BYTES allows 536870912; "
    "raise it if the model is meant to be this large"
)
LONGER = (
    "MLmodel is longer than the SIZE bytes that the proxy lists; "
    "was the model changed just now? import again, or log it again"
)
RETRY = "import again, or read the server's log"
MANY = "the model has more than 1000 files; is it a model?"
EXPERIMENT = "log and register the model again in a new experiment"
CANNOT_SEND = (
    "the server lists the file MLmodel and cannot send it ({}); "
    "log and register the model again without it, or read the server's log"
)
NO_MLFLOW = "URL does not answer like an MLflow tracking server; is MLFLOW_TRACKING_URI right?"


@dataclass(frozen=True)
class Scene:
    """A registry, another host that may get no login, and a store with a sound model in it."""

    registry: FakeRegistry
    thief: FakeRegistry
    home: Path
    marker: Path
    output: Path
    env: dict[str, str]

    def run(self, uri: str = URI, *arguments: str) -> warm.Done:
        """Run the command line with a login for the registry."""
        return warm.run(self.output, uri, *arguments, env=self.env)


Attack = Callable[[Scene], Any]


@pytest.fixture(scope="module")
def seeded(
    model_files: dict[str, bytes],
    tmp_path_factory: pytest.TempPathFactory,
    plain_env: dict[str, str],
) -> Path:
    """Return a BENTOML_HOME with a sound model in it, imported from a fake registry."""
    home = tmp_path_factory.mktemp("home")
    with fake_registry(model_files) as registry:
        env = plain_env | {"MLFLOW_TRACKING_URI": registry.url, "BENTOML_HOME": str(home)}
        done = warm.run(tmp_path_factory.mktemp("output"), "models:/IrisModel/7", env=env)
    assert done.status == 0, done.stderr
    return home


@pytest.fixture
def scene(
    seeded: Path, model_files: dict[str, bytes], tmp_path: Path, plain_env: dict[str, str]
) -> Iterator[Scene]:
    """Run a registry that serves a sound model until an attack changes it."""
    with fake_registry(model_files) as registry, fake_registry({}) as thief:
        env = plain_env | {
            "BENTOML_HOME": str(seeded),
            "MLFLOW_TRACKING_URI": registry.url,
            "MLFLOW_TRACKING_USERNAME": "importer",
            "MLFLOW_TRACKING_PASSWORD": PASSWORD,
        }
        yield Scene(registry, thief, seeded, tmp_path / "marker", tmp_path, env)


def _rejection(scene: Scene, uri: str = URI, *arguments: str) -> str:
    """Import what must be rejected, check that nothing came of it, and return the error line."""
    done = warm.failing(scene.run, scene.home)(uri, *arguments)

    assert all(line.isprintable() for line in done.stderr.split("\n")), done.stderr
    assert PASSWORD not in done.stderr
    assert not scene.marker.exists()
    assert scene.thief.seen == []
    return done.error.replace(scene.registry.url, "URL")


def _says(asked: str, answer: Any) -> Attack:
    return lambda scene: scene.registry.answers.update({asked: answer})


def _lists(*entries: Any) -> Attack:
    """List these entries beside the model's own files; a file of them has one byte."""

    def attack(scene: Scene) -> None:
        for entry in entries:
            if isinstance(entry, dict):
                scene.registry.answers[f"file/{entry.get('path')}"] = b"#"
        usual = scene.registry.listing()["files"]
        scene.registry.answers["list/"] = {"files": [*usual, *entries]}

    return attack


def _file(name: Any, size: Any = 1) -> Attack:
    return _lists({"path": name, "is_dir": False, "file_size": size})


def _version(**changes: Any) -> Attack:
    """Answer with another model version, whichever endpoint is asked."""

    def attack(scene: Scene) -> None:
        version = VERSION | changes
        for asked in ("model-versions/get", "registered-models/alias"):
            scene.registry.answers[asked] = {"model_version": version}
        scene.registry.answers["registered-models/get-latest-versions"] = {
            "model_versions": [version]
        }

    return attack


def _mlmodel(edit: Callable[[dict[str, Any]], Any]) -> Attack:
    def attack(scene: Scene) -> None:
        document = yaml.safe_load(scene.registry.files["MLmodel"])
        edit(document)
        scene.registry.files["MLmodel"] = yaml.safe_dump(document).encode()

    return attack


def _serves(name: str, content: bytes) -> Attack:
    return lambda scene: scene.registry.files.update({name: content})


def _all(*attacks: Attack) -> Attack:
    return lambda scene: [attack(scene) for attack in attacks]


def test_sound_model(scene: Scene, tmp_path: Path) -> None:
    """Without an attack, the model is imported, and each request has the login."""
    scene.env["BENTOML_HOME"] = str(tmp_path / "home")
    done = scene.run("models:/IrisModel@champion")

    active = (tmp_path / "home/models/irismodel/latest").read_text()
    assert done.status == 0, done.stderr
    assert done.stdout == f"irismodel:{active}\n"
    assert len(scene.registry.seen) == 9
    assert {str(login).split()[0] for _, login in scene.registry.seen} == {"Basic"}


# What is served


class Bomb:
    """Makes a file when it is unpickled."""

    def __init__(self, marker: Path) -> None:
        self.marker = marker

    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, (str(self.marker),)


def _pickle_bomb(serialization_format: str, name: str) -> Attack:
    def attack(scene: Scene) -> None:
        scene.registry.files[name] = pickle.dumps(Bomb(scene.marker))
        _mlmodel(
            lambda document: (
                document["flavors"]["sklearn"].update(
                    pickled_model=name, serialization_format=serialization_format
                ),
                document["flavors"]["python_function"].update(model_path=name),
            )
        )(scene)

    return attack


def _foreign_skops(scene: Scene) -> None:
    """Call a function of the operating system before each prediction."""
    rows, labels = load_iris(return_X_y=True)
    estimator = make_pipeline(FunctionTransformer(), LogisticRegression(max_iter=1000))
    estimator.fit(rows, labels)
    estimator.steps[0][1].func = os.system
    scene.registry.files["model.skops"] = skops.io.dumps(estimator)


def _trusts(*names: str) -> Attack:
    return _mlmodel(lambda d: d["flavors"]["sklearn"].update(skops_trusted_types=list(names)))


def _grows(first: str, level: str, name: str) -> Attack:
    """Give MLmodel nine levels, each ten times the one before, and a loader with that name."""

    def attack(scene: Scene) -> None:
        levels = [f"l0: &l0 {first}"]
        for n in range(1, 10):
            tenfold = ", ".join([f"*l{n - 1}"] * 10)
            levels.append(f"l{n}: &l{n} {level.format(tenfold)}")
        text = scene.registry.files["MLmodel"].decode().replace("mlflow.sklearn", name, 1)
        scene.registry.files["MLmodel"] = "\n".join([*levels, text]).encode()

    return attack


def _profile(edit: Callable[[dict[str, Any]], Any]) -> Attack:
    feature: dict[str, Any] = {"minimum": 0.1, "maximum": 8.0, "mean": 4.0, "deviation": 1.0}
    feature |= {"edges": [0.1, 8.0], "shares": [1.0]}
    features = {name: dict(feature) for name in FEATURES}
    document: dict[str, Any] = {"features": features, "classes": {"a": 1}}
    edit(document)
    content = json.dumps(document).encode()
    return _serves("extra_files/training_profile.json", content)


def _pickled(kind: str) -> str:
    return (
        f"the model is a {kind}, which can run any code when it is opened; {AS_SKOPS}, "
        "or import it with --trust-pickle if you trust its author"
    )


def _profiled(problem: str) -> str:
    return (
        f"training_profile.json cannot be used: {problem}; "
        "log the model again with a right one, or without"
    )


CONTENTS: dict[str, tuple[Attack, str]] = {
    "cloudpickle": (_pickle_bomb("cloudpickle", "model.pkl"), _pickled("cloudpickle")),
    "pickle": (_pickle_bomb("pickle", "model.pkl"), _pickled("pickle")),
    "joblib": (_pickle_bomb("skops", "model.joblib"), _pickled("joblib")),
    "pickle that says skops": (_pickle_bomb("skops", "model.skops"), NO_ARCHIVE),
    "foreign type": (_foreign_skops, FOREIGN),
    "foreign type that MLmodel trusts": (_all(_foreign_skops, _trusts("posix.system")), FOREIGN),
    "code folder": (_serves("code/own.py", b"raise SystemExit"), CODE),
    "code path": (_mlmodel(lambda d: d["flavors"]["python_function"].update(code="code")), CODE),
    "loader": (
        _mlmodel(lambda d: d["flavors"]["python_function"].update(loader_module="own.loader")),
        f"the model is loaded by own.loader and not by mlflow.sklearn; {AGAIN}",
    ),
    "loader with terminal escapes": (
        _mlmodel(lambda d: d["flavors"]["python_function"].update(loader_module="\x1b[2J\nown")),
        f"the model is loaded by ?[2J own and not by mlflow.sklearn; {AGAIN}",
    ),
    "loader that grows": (
        _grows("[boom]", "[{}]", "*l9"),
        f"the MLmodel file cannot be used: loader_module: Input should be a valid string; {AGAIN}",
    ),
    "merge that grows": (_grows("{a: 1}", "{{<<: [{}]}}", "mlflow.sklearn"), NO_YAML),
    "long list of flavors": (
        _mlmodel(lambda d: d.update(flavors={f"flavor-{n}": {} for n in range(1000)})),
        (
            "the model has no sklearn flavor (it has: flavor-0, flavor-1, flavor-10, flavor-100, "
            f"flavor-101 and 995 more); {AGAIN}"
        ),
    ),
    "YAML object": (
        lambda s: s.registry.files.update(
            MLmodel=f"!!python/object/apply:os.mkdir [{s.marker}]".encode()
        ),
        NO_YAML,
    ),
    "deep YAML": (_serves("MLmodel", b"[" * 100_000), NO_YAML),
    "profile with terminal escapes": (
        _profile(lambda d: d["features"].update({"\x1b[2J\nerror: x": {}})),
        _profiled("features.?[2J error: x.minimum: Field required"),
    ),
    "profile with infinite numbers": (
        _profile(lambda d: d["features"]["sepal_width"].update(maximum=float("inf"))),
        _profiled("features.sepal_width.maximum: Input should be a finite number"),
    ),
    "deep profile": (
        _serves("extra_files/training_profile.json", b"[" * 100_000),
        _profiled("Invalid JSON: recursion limit exceeded at line 1 column 202"),
    ),
}


@pytest.mark.parametrize(("attack", "message"), CONTENTS.values(), ids=CONTENTS)
def test_contents(scene: Scene, attack: Attack, message: str) -> None:
    """A model that brings code, or asks for some, is rejected before anything of it is opened."""
    attack(scene)

    assert _rejection(scene) == message


EXAMPLES = {
    "large number": b"[[1" + b"0" * 400 + b", 1, 1, 1]]",
    "no number": b'[["\\u001b[2J", {}, null, NaN]]',
    "uneven": b"[[1, 1, 1], [[]], 7]",
    "deeper rows": b"[[[1], [1], [1], [1]]]",
    "infinite": b"[[Infinity, 1, 1, 1]]",
    "deep": b"[" * 100_000,
}


@pytest.mark.parametrize("content", EXAMPLES.values(), ids=EXAMPLES)
def test_example(scene: Scene, tmp_path: Path, content: bytes) -> None:
    """An invalid input example is ignored, because the model itself is sound."""
    scene.env["BENTOML_HOME"] = str(tmp_path / "home")
    columns = json.dumps(FEATURES).encode()
    example = b'{"columns": ' + columns + b', "data": ' + content + b"}"
    scene.registry.files["input_example.json"] = example
    done = scene.run()

    assert done.status == 0, done.stderr
    assert "Traceback" not in done.stderr


# What is listed and how it arrives


def _listed(name: str) -> str:
    return (
        f"the proxy lists a file named {name!r}, which is not a plain name; "
        "log the model again without it"
    )


NAMES = {
    "..": "..",
    "../x": "../x",
    "/etc/passwd": "/etc/passwd",
    "..\\x": "..\\x",
    "a\0b": "a?b",
    "": "",
    "a\nerror: all is well": "a error: all is well",
    "\x1b]0;owned\x07": "?]0;owned?",
    "a\u202etxt.exe": "a?txt.exe",
    "x" * 300: "x" * 200,
    "x" * 100_000: "x" * 200,
    7: "7",
    None: "None",
}
"""Names that are not plain, and how each is shown."""

DECODED = ("..%2fx", "a%20b", "a#b", "MLmodel?", "MLmodel;")
"""Names that the proxy takes for others, because it decodes them."""

SIZES = (-(10**10), float("inf"), "1e3", "9" * 5000)
FOLDER_A = {"path": "a", "is_dir": True}

LISTINGS: dict[str, tuple[Attack, str]] = {
    **{f"name {n}": (_file(name), _listed(shown)) for n, (name, shown) in enumerate(NAMES.items())},
    **{
        f"name {name}": (
            _file(name),
            (
                f"the proxy cannot serve the file {name!r}, because it decodes its name like a "
                "URL; rename the file and log the model again"
            ),
        )
        for name in DECODED
    },
    "half a character": (_file("\ud800"), NO_MLFLOW),
    "folder ..": (_lists({"path": "..", "is_dir": True}), _listed("..")),
    "name is a list": (_file(["MLmodel"]), _listed("['MLmodel']")),
    "entry is a string": (_lists("MLmodel"), NO_MLFLOW),
    "twice": (_file("MLmodel", 3), "the proxy lists 'MLmodel' twice; log the model again"),
    "file and folder": (
        _lists({"path": "MLmodel", "is_dir": True}),
        "the proxy lists 'MLmodel' twice; log the model again",
    ),
    "10 GB": (_file("large", 10 * 10**9), LARGE),
    "10 GB in text": (_file("large", str(10 * 10**9)), LARGE),
    **{f"size {n}": (_file("large", size), NO_MLFLOW) for n, size in enumerate(SIZES)},
    "listing is a list": (_says("list/", []), NO_MLFLOW),
    "files is null": (_says("list/", {"files": None}), NO_MLFLOW),
    "files is a mapping": (_says("list/", {"files": {"path": "MLmodel"}}), NO_MLFLOW),
    "folder in itself": (
        _all(*(_says("list/" + "/".join(["a"] * n), {"files": [FOLDER_A]}) for n in range(1001))),
        MANY,
    ),
    "nothing": (
        _says("list/", {}),
        (
            "the proxy lists no file for IrisModel version 1; was its run or its artifact folder "
            "deleted? log and register the model again"
        ),
    ),
    "endless listing": (_says("list/", endless(b'{"files": [' + b" " * 65536)), NO_MLFLOW),
    "deep listing": (_says("list/", b"[" * 100_000), NO_MLFLOW),
    "listing that is cut off": (
        _says("list/", cut_off(b'{"files": []}')),
        f"the connection to URL broke (IncompleteRead(13 bytes read, 1000 more expected)); {RETRY}",
    ),
    "no UTF-8": (_says("list/", b'{"files": [{"path": "\xff"}]}'), NO_MLFLOW),
    "endless error": (
        _says("list/", endless(b"x" * 65536, status=400)),
        f"URL answers HTTP 400 ({'x' * 200}); is MLFLOW_TRACKING_URI right?",
    ),
    "error with terminal escapes": (
        _says("list/", lambda h: h.send(b'{"message": "\\u001b[2J\\nerror: all is well"}', 400)),
        "URL answers HTTP 400 (?[2J error: all is well); is MLFLOW_TRACKING_URI right?",
    ),
    "1001 files": (_lists(*({"path": f"{n}", "file_size": 1} for n in range(1001))), MANY),
    "1001 folders": (_lists(*({"path": f"{n}", "is_dir": True} for n in range(1001))), MANY),
    "shorter than listed": (
        _says("file/MLmodel", b"flavors: {}"),
        CANNOT_SEND.format("the download of MLmodel broke after 11 of SIZE bytes"),
    ),
    "longer than listed": (_says("file/MLmodel", b"#" * 5000), LONGER),
    "endless file": (_says("file/MLmodel", endless(b"#" * 65536)), LONGER),
    "file that is cut off": (
        _says("file/MLmodel", cut_off(b"#" * 10)),
        CANNOT_SEND.format("the download of MLmodel broke after 0 of SIZE bytes"),
    ),
    "folder marker of a bucket": (
        _all(
            _lists({"path": "artifacts", "is_dir": False}),
            _says("file/artifacts", lambda h: h.send(b"failed", 500)),
        ),
        (
            "the server lists the file artifacts and cannot send it (URL answers HTTP 500 "
            "(failed)); if it marks a folder in a bucket, delete it there"
        ),
    ),
    "file that is not there": (
        _says("file/MLmodel", lambda h: h.send(b'{"error_code": "RESOURCE_DOES_NOT_EXIST"}', 404)),
        "the download of MLmodel failed: URL answers HTTP 404 and no more",
    ),
    "file that is gone": (
        _says("file/MLmodel", lambda h: h.send(b"gone", 404)),
        (
            "the download of MLmodel failed: URL answers HTTP 404 (gone); "
            "is MLFLOW_TRACKING_URI right?"
        ),
    ),
}


@pytest.mark.parametrize(("attack", "message"), LISTINGS.values(), ids=LISTINGS)
def test_listing_and_files(scene: Scene, attack: Attack, message: str) -> None:
    """A listing names plain files of a bounded size and number, and they arrive as listed."""
    attack(scene)
    sizes = {path: len(content) for path, content in scene.registry.files.items()}
    line = message.replace("TOTAL", str(sum(sizes.values()) + 10 * 10**9))

    assert _rejection(scene) == line.replace("SIZE", str(sizes["MLmodel"]))


def test_broad_cycle(scene: Scene) -> None:
    """Folders that each list ten more are given up after a bounded number of requests."""
    ten = {"files": [{"path": f"{n}", "is_dir": True} for n in range(10)]}
    for depth in range(5):
        for path in itertools.product("0123456789", repeat=depth):
            scene.registry.answers["list/" + "/".join(path)] = ten

    assert _rejection(scene) == MANY
    assert len(scene.registry.seen) < 1100


def test_drip(scene: Scene) -> None:
    """A file that comes a byte at a time ends with the time limit of the import."""
    scene.registry.answers["file/MLmodel"] = endless(b"#", pause=0.05)

    assert _rejection(scene, URI, "--timeout", "1") == (
        "not done after 1 s; is the server slow? --timeout sets the limit"
    )


# What an import may take


IRIS = load_iris()


def _busy() -> Any:
    """Write a small file of a million support vectors, each of which is compared with each row."""
    count = 1_000_000
    machine = SVC().fit(IRIS.data, IRIS.target_names[IRIS.target])
    machine.support_vectors_ = np.zeros((count, 4))
    machine.support_ = np.zeros(count, dtype=np.int32)
    machine._n_support = np.array([count - 2, 1, 1], dtype=np.int32)  # noqa: SLF001
    machine.dual_coef_ = machine._dual_coef_ = np.zeros((2, count))
    return skops.io.dumps(machine, compression=zipfile.ZIP_DEFLATED)


def _hungry() -> Any:
    """Write a small file of an estimator that makes a hundred thousand numbers of each row."""
    estimator = make_pipeline(RBFSampler(n_components=3), SGDClassifier())
    estimator.fit(IRIS.data, IRIS.target_names[IRIS.target])
    count = 100_000
    estimator[0].random_weights_, estimator[0].random_offset_ = (
        np.zeros((4, count)),
        np.zeros(count),
    )
    estimator[1].coef_, estimator[1].n_features_in_ = np.zeros((3, count)), count
    return skops.io.dumps(estimator, compression=zipfile.ZIP_DEFLATED)


TAKES = {
    "processor time": (_busy, "4 s of processor time", "CPU_SECONDS"),
    "memory": (_hungry, "900 MiB of memory", "MEMORY_BYTES"),
}


@pytest.mark.parametrize(("model", "limit", "setting"), TAKES.values(), ids=TAKES)
def test_limits(scene: Scene, model: Callable[[], Any], limit: str, setting: str) -> None:
    """A small file that takes much is ended at the limits; a watch tries it once and goes on."""
    message = (
        f"the import took more than {limit}; register a smaller model, or raise "
        f"IRIS_IMPORT_{setting} if this one is meant to be so large"
    )
    sound = dict(scene.registry.files)
    scene.registry.files["model.skops"] = model()
    scene.env.update({"IRIS_IMPORT_CPU_SECONDS": "4", "IRIS_IMPORT_MEMORY_BYTES": "900MiB"})
    assert len(scene.registry.files["model.skops"]) < 1 << 20
    assert _rejection(scene) == message

    scene.registry.seen.clear()
    watch = warm.start(scene.output, "--watch", "0.2", "models:/IrisModel@champion", env=scene.env)
    log = scene.output / "stderr"
    try:
        servers.wait_for(lambda: message in log.read_text(), 60)
        servers.wait_for(lambda: len(scene.registry.seen) > 40)  # it polls
        scene.registry.files = sound
        _version(version="2")(scene)
        servers.wait_for(
            lambda: bool(re.search(r":v2-\w+ is (stored|in the store)", log.read_text()))
        )
    finally:
        watch.kill()
        watch.join()
    assert log.read_text().count("error: ") == 1


# What the registry says about a version

URIS = {
    "model-versions/get": URI,
    "registered-models/alias": "models:/IrisModel@champion",
    "registered-models/get-latest-versions": "models:/IrisModel/Production",
}
"""A model URI for which each endpoint is asked."""


def _metrics(*metrics: Any) -> Attack:
    return _says("runs/get", {"run": {"data": {"metrics": list(metrics)}}})


VERSIONS: dict[str, Attack] = {
    "no version": _says("model-versions/get", {}),
    "version is a list": _says("model-versions/get", {"model_version": []}),
    "nothing in it": _says("model-versions/get", {"model_version": {}}),
    **{f"number {text}": _version(version=text) for text in ("one", "-1", "0", "1.0", "2")},
    "number is true": _version(version=True),
    "number is long": _version(version="1" * 5000),
    "number with terminal escapes": _version(version="\x1b[2J1"),
    **{f"{key} is a number": _version(**{key: 7}) for key in ("current_stage", "run_id", "source")},
    "aliases are a word": _version(aliases="champion"),
    "source is null and status a list": _version(source=None, status=["READY"]),
    "no location": _says("model-versions/get-download-uri", {}),
    "location is a number": _says("model-versions/get-download-uri", {"artifact_uri": 7}),
    "metrics are a mapping": _says("runs/get", {"run": {"data": {"metrics": {"a": 1}}}}),
    "metric is a word": _metrics({"key": "a", "value": "good"}),
    "metric without a key": _metrics({"value": 1}),
    "metric beyond all numbers": _metrics({"key": "a", "value": 10**400}),
    "nothing for an alias": _says("registered-models/alias", {"model_version": {}}),
    "list of versions": _says("registered-models/get-latest-versions", []),
    "word as a version": _says(
        "registered-models/get-latest-versions", {"model_versions": [{"version": "x"}]}
    ),
}


@pytest.mark.parametrize("attack", VERSIONS.values(), ids=VERSIONS)
def test_version(scene: Scene, attack: Attack) -> None:
    """The registry's answers about a version must have the right types, from each endpoint."""
    attack(scene)
    uris = [uri for asked, uri in URIS.items() if asked in scene.registry.answers]

    assert _rejection(scene, uris[0] if len(uris) == 1 else URI) == NO_MLFLOW


def test_status(scene: Scene) -> None:
    """A version that is not ready is rejected, and its status is shown on one line."""
    _version(status="\x1b[2J\nerror: x")(scene)

    assert _rejection(scene) == (
        "version 1 of IrisModel is ?[2J error: x, not READY; wait for its registration to "
        "finish, or register it again"
    )


TEXTS: dict[str, Attack] = {
    "stage": _version(current_stage="\x1b[2JProduction"),
    "line break": _version(current_stage="Production\nerror: all is well"),
    "long stage": _version(current_stage="x" * 10_000),
    "alias": _version(aliases=["\x1b[2J", "a\nb"]),
    "aliases": _version(aliases=["a", 1, None]),
    "run": _version(run_id="a\nb\x1b[2J"),
    "source": _version(source="models:/m-0\n\x1b[2J"),
    "metric": _metrics({"key": "\x1b[2J\na", "value": 1}),
}


@pytest.mark.parametrize("attack", TEXTS.values(), ids=TEXTS)
def test_text_is_shown_on_one_line(scene: Scene, tmp_path: Path, attack: Attack) -> None:
    """Text with line breaks and terminal escapes is stored, and shown, without them."""
    scene.env["BENTOML_HOME"] = str(tmp_path / "home")
    attack(scene)
    done = scene.run()

    assert done.status == 0, done.stderr
    assert [line.split()[0] for line in done.stderr.splitlines()] == [
        *("importing", "models:/IrisModel/1", "fetching", "compiled"),
        done.stdout.strip(),
    ]
    assert all(line.isprintable() and len(line) < 300 for line in done.stderr.split("\n"))
    metadata = warm.metadata(tmp_path / "home", done.stdout)
    shown = [metadata.get(key, "") for key in ("name", "stage", "run_id", "model_id", "source")]
    assert all(text.isprintable() for text in (*shown, *metadata["aliases"], *metadata["metrics"]))


def test_metrics_without_an_end(scene: Scene, tmp_path: Path) -> None:
    """Metrics that are not finite, as runs have them, are left out and the model is imported."""
    scene.env["BENTOML_HOME"] = str(tmp_path / "home")
    values = [float("nan"), "NaN", "Infinity", float("-inf"), 0.5, "0.25", 1]
    _metrics(*({"key": f"m{n}", "value": value} for n, value in enumerate(values)))(scene)
    done = scene.run()

    assert done.status == 0, done.stderr
    found = warm.metadata(tmp_path / "home", done.stdout)["metrics"]
    assert found == {"m4": 0.5, "m5": 0.25, "m6": 1.0}


# Where the login goes


def _place(place: str) -> str:
    return (
        f"the registry says that the files are at {place!r}, which no server passes on, "
        "because the experiment was made without --serve-artifacts; start the tracking server with "
        "--serve-artifacts and without --default-artifact-root, so that new experiments begin with "
        f"mlflow-artifacts:/, and {EXPERIMENT}"
    )


def _host(host: str) -> str:
    return (
        f"the version's files are at another host, {host!r}; if you trust it, set "
        f"IRIS_ARTIFACT_HOSTS={host}, and IRIS_ARTIFACT_USERNAME and IRIS_ARTIFACT_PASSWORD, or "
        "IRIS_ARTIFACT_TOKEN, if it asks for a login"
    )


def _path(place: str) -> str:
    return f"the version's location {place!r} is not a plain path; {EXPERIMENT}"


LOCATIONS = {
    "other host": ("mlflow-artifacts://thief/1/models/m-0123/artifacts", _host("thief")),
    "other port": (
        "mlflow-artifacts://127.0.0.1:1/1/models/m-0123/artifacts",
        _host("127.0.0.1:1"),
    ),
    "login in the host": ("mlflow-artifacts://127.0.0.1:1@thief/1/a", _host("thief")),
    "http": ("http://thief/1/a", _place("http://thief/1/a")),
    "login": ("http://me:hidden@thief/a", _place("http://thief/a")),
    "https": ("https://thief/a?key=hidden", _place("https://thief/a")),
    "file": ("file:///etc", _place("file:///etc")),
    "path": ("/etc", _place("/etc")),
    "s3": ("s3://bucket/a", _place("s3://bucket/a")),
    "runs": ("runs:/0/model", _place("runs:/0/model")),
    "terminal escape": ("\x1b[2J://thief/a", _place("?[2J://thief/a")),
    "traversal": ("mlflow-artifacts:/1/../../etc", _path("mlflow-artifacts:/1/../../etc")),
    "escaped traversal": ("mlflow-artifacts:/1/%2e%2e/a", _path("mlflow-artifacts:/1/%2e%2e/a")),
    "empty": ("mlflow-artifacts:/", _path("mlflow-artifacts:/")),
    "query": ("mlflow-artifacts:/1/a?path=../b", _path("mlflow-artifacts:/1/a?path=../b")),
    "broken host": (
        "mlflow-artifacts://[1/a",
        f"the version's location is not a plain path; {EXPERIMENT}",
    ),
}


@pytest.mark.parametrize(("location", "message"), LOCATIONS.values(), ids=LOCATIONS)
def test_location(scene: Scene, location: str, message: str) -> None:
    """Files are fetched from the proxy that was asked, and from a plain path below it."""
    host = scene.thief.url.removeprefix("http://").replace("127.0.0.1", "localhost")
    scene.registry.answers["model-versions/get-download-uri"] = {
        "artifact_uri": location.replace("thief", host)
    }

    assert _rejection(scene).replace(host, "thief") == message
    assert not [path for path, _ in scene.registry.seen if "artifacts" in path]


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
@pytest.mark.parametrize(
    "asked",
    ["model-versions/get", "model-versions/get-download-uri", "list/", "file/MLmodel", "runs/get"],
)
def test_redirect(scene: Scene, asked: str, status: int) -> None:
    """No redirect is followed, not of a call, a listing or a file, so that no login goes along."""
    scene.registry.answers[asked] = lambda handler: handler.send(
        b"", status, Location=f"{scene.thief.url}/stolen"
    )

    place = "the download of MLmodel failed: " if asked == "file/MLmodel" else ""
    assert _rejection(scene) == (
        f"{place}URL redirects to another address (HTTP {status}); set MLFLOW_TRACKING_URI to the "
        "final address, because a login is not sent on"
    )


def test_thief_records_logins(scene: Scene) -> None:
    """The other host does record a login that is sent to it."""
    scene.env["MLFLOW_TRACKING_URI"] = scene.thief.url
    scene.run()

    assert str(scene.thief.seen[0][1]).startswith("Basic ")
