"""The contract of the served model: its columns, their unit and their range."""

FEATURES = ("sepal_length", "sepal_width", "petal_length", "petal_width")
"""The columns of every array of rows in this project, in this order, in centimetres."""

SKLEARN_NAMES = {f"{feature.replace('_', ' ')} (cm)": feature for feature in FEATURES}
"""The names that `sklearn.datasets.load_iris` gives to the four features."""

MINIMUM_CM, MAXIMUM_CM = 0, 100
"""The accepted range: values outside it are mistakes of unit or of the decimal point."""


def feature_of(column: str) -> str:
    """Return the feature that a model's column holds, or the name itself where it holds none."""
    return SKLEARN_NAMES.get(column, column)
