"""Model directories as mlflow.sklearn saves them, and ways to spoil them."""

import io
import json
import pickle
import shutil
import warnings
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import sklearn
import skops.io
import yaml
from sklearn.datasets import load_iris
from sklearn.linear_model import LogisticRegression

from iris_api.errors import IrisError
from iris_api.schema import FEATURES
from iris_api.vetting.estimator import vet

X, y = load_iris(return_X_y=True)
SPECIES = load_iris().target_names[y]
HERE = sklearn.__version__
AGAIN = "log the model again with mlflow.sklearn.log_model"
AS_SKOPS = (
    'log the model again with mlflow.sklearn and serialization_format="skops" '
    "(MLflow 3.9 or later; autolog, too, writes cloudpickle unless it is given this)"
)
CODE = (
    "the model brings its own Python code, which is never run here; log it again without code_paths"
)

Edit = Callable[[dict[str, Any]], Any]
Copy = Callable[..., Path]


def save(root: Path) -> None:
    """Save the same model in each serialization format, in a folder of its name."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        import mlflow.sklearn  # noqa: PLC0415
        import pandas as pd  # noqa: PLC0415
        from mlflow.models import infer_signature  # noqa: PLC0415

        frame = pd.DataFrame(X, columns=list(FEATURES))
        for name in ("skops", "cloudpickle", "pickle"):
            mlflow.sklearn.save_model(
                logistic(),
                root / name,
                serialization_format=name,
                signature=infer_signature(frame, SPECIES),
                pip_requirements=["scikit-learn"],
            )


def copier(saved: Path, folder: Path) -> Copy:
    """Return a function that copies a saved directory, with another MLmodel or model file."""

    def copy(
        name: str = "skops", edit: Edit | None = None, model: bytes | None = None, to: str = "model"
    ) -> Path:
        directory = folder / to
        shutil.copytree(saved / name, directory)
        document = yaml.safe_load((directory / "MLmodel").read_text())
        if model is not None:
            (directory / document["flavors"]["sklearn"]["pickled_model"]).write_bytes(model)
        if edit:
            edit(document)
            (directory / "MLmodel").write_text(yaml.safe_dump(document))
        return directory

    return copy


def opened(directory: Path) -> Any:
    """Open the estimator of a directory, as the import does."""
    return vet(directory, trust_pickle=False).estimator


def problem(directory: Path, *, trust_pickle: bool = False) -> str:
    """Return the reason why a directory is rejected."""
    with pytest.raises(IrisError) as raised:
        vet(directory, trust_pickle=trust_pickle)
    return str(raised.value)


def untrusted(names: str) -> str:
    """Return the reason why a model of types that are not trusted is rejected."""
    return (
        f"the model asks for types that are not trusted: {names}; "
        "train it with scikit-learn's own estimators, without own functions, unusual metrics "
        "or sparse matrices, and log only what predicts: of a search its best_estimator_, without "
        "callbacks"
    )


def edited(estimator: Any, edit: Edit) -> bytes:
    """Write a skops archive whose estimator has other attributes in its schema."""
    target = io.BytesIO()
    with (
        zipfile.ZipFile(io.BytesIO(skops.io.dumps(estimator))) as source,
        zipfile.ZipFile(target, "w") as archive,
    ):
        for member in source.infolist():
            content = source.read(member)
            if member.filename == "schema.json":
                schema = json.loads(content)
                edit(schema["content"]["content"])
                content = json.dumps(schema).encode()
            archive.writestr(member, content)
    return target.getvalue()


def node(loader: str, name: str, **rest: Any) -> dict[str, Any]:
    """Write an object of a skops schema."""
    module, _, class_name = name.rpartition(".")
    return {"__loader__": loader, "__module__": module, "__class__": class_name, **rest}


def text_node(value: object) -> dict[str, Any]:
    """Write a value of JSON as a skops schema has it."""
    return node("JsonNode", "builtins.str", content=json.dumps(value))


def tuple_node(*items: Any) -> dict[str, Any]:
    """Write a tuple as a skops schema has it."""
    return node("TupleNode", "builtins.tuple", content=list(items))


def logistic() -> LogisticRegression:
    """Fit a logistic regression on the data set."""
    return LogisticRegression(max_iter=300).fit(X, SPECIES)


def sklearn_flavor(**changes: Any) -> Edit:
    """Change the sklearn flavor of an MLmodel."""
    return lambda document: document["flavors"]["sklearn"].update(changes)


def pyfunc_flavor(**changes: Any) -> Edit:
    """Change the python_function flavor of an MLmodel."""
    return lambda document: document["flavors"]["python_function"].update(changes)


def both_files(path: str) -> Edit:
    """Name another model file in both flavors of an MLmodel."""
    return lambda document: (
        sklearn_flavor(pickled_model=path)(document),
        pyfunc_flavor(model_path=path)(document),
    )


def bomb(code: str) -> bytes:
    """Pickle something that runs code when it is unpickled."""

    class Bomb:
        def __reduce__(self) -> tuple[Any, ...]:
            return exec, (code,)

    return pickle.dumps(Bomb())
