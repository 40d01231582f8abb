"""The tables of scikit-learn's estimators in the docs are complete, and true of an import."""

import pytest
from support import documentation, survey
from support.saved_models import Copy

PAGE = documentation.PAGES["docs/estimators.md"].splitlines()
LINES = {line.split("`")[1]: line for line in PAGE if line.startswith("| `")}
NAMES = [(kind, name) for kind in survey.KINDS for name in survey.names(kind)]
QUICK = {"GaussianNB", "KNeighborsClassifier", "FixedThresholdClassifier", "Birch", "KMeans"}


def test_every_estimator_is_listed() -> None:
    """The tables have each estimator of the installed scikit-learn, in its order."""
    assert list(LINES) == [name for _, name in NAMES]


@pytest.mark.parametrize("kind", [kind for kind in survey.KINDS if kind != "transformer"])
def test_nearly_all_are_imported(kind: str) -> None:
    """At least nine of ten estimators that predict from such a table are imported."""
    lines = [LINES[name] for name in survey.names(kind) if "| for " not in LINES[name]]

    assert sum("| no |" not in line for line in lines) >= 0.9 * len(lines)


@pytest.mark.parametrize(
    ("kind", "name"),
    [pytest.param(*each, marks=() if each[1] in QUICK else pytest.mark.thorough) for each in NAMES],
)
def test_estimator_is_served_as_the_table_says(kind: str, name: str, copied: Copy) -> None:
    """An estimator that is saved, vetted and compiled ends as its line says."""
    assert str(survey.look_up(kind, name, copied)) == LINES[name]
