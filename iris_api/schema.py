"""The contract of the model: its columns, their unit and their range."""

FEATURES = ("sepal_length", "sepal_width", "petal_length", "petal_width")
"""The columns of every array of rows in this project, in this order, in centimetres."""

SKLEARN_NAMES = {
    "sepal length (cm)": "sepal_length",
    "sepal width (cm)": "sepal_width",
    "petal length (cm)": "petal_length",
    "petal width (cm)": "petal_width",
}
"""What `sklearn.datasets.load_iris` calls the four features, in a model's columns."""

MINIMUM_CM, MAXIMUM_CM = 0, 100
"""No length is negative, and no iris measures a metre: beyond are mistakes of unit or decimal."""


def feature_of(column: str) -> str:
    """Return the feature that a model's column holds; a name that means none stays as it is."""
    return SKLEARN_NAMES.get(column, column)
