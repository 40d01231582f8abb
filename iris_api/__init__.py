"""An HTTP service of a registered scikit-learn model; `docs/architecture.md` has the map."""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:  # a service needs neither
    from collections.abc import Mapping

__version__ = "0.1.0"


def log_model(
    estimator: Any,
    rows: Any,
    labels: Any,
    *,
    name: str,
    ranges: "Mapping[str, tuple[float, float]] | None" = None,
) -> str:
    """Register a fitted estimator with all that an import uses, and return its model URI.

    It is saved as skops with a signature, an example and a training profile. Within an active run
    it belongs to that run. mlflow.sklearn.log_model registers models as well, but without profile.

    Args:
        estimator: A fitted classifier or regressor.
        rows: Its training rows or others like them, a data frame or an array, (n, columns).
        labels: Their labels, (n,), or for a regressor the numbers of the target.
        name: The name of the registered model.
        ranges: The smallest and the largest number that requests may have, by the names of columns.

    Raises:
        IrisError: The estimator is not fitted, or the rows are not those of a table.
        MlflowException: The tracking server rejects it.
    """
    from iris_api.registering import register  # noqa: PLC0415 (MLflow takes seconds)

    return register(estimator, rows, labels, name=name, ranges=ranges or {})
