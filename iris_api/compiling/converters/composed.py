"""Converters of estimators that are made of other estimators."""

from collections.abc import Sequence
from itertools import combinations
from typing import Any

import numpy as np
from numpy.typing import NDArray

from iris_api.compiling.converters import ensembles
from iris_api.compiling.converters.classifiers import nearest
from iris_api.compiling.converters.graph import Answer, Graph, NoConverterError


def convert_pipeline(graph: Graph, pipeline: Any, rows: str) -> Answer:
    """Convert a pipeline that ends in a classifier."""
    for _, step in pipeline.steps[:-1]:
        rows = graph.transform(step, rows)
    return graph.answer(pipeline.steps[-1][1], rows)


def convert_search(graph: Graph, search: Any, rows: str) -> Answer:
    """Convert the best estimator of a search for parameters."""
    return graph.answer(search.best_estimator_, rows)


def convert_wrapped(graph: Graph, wrapper: Any, rows: str) -> Answer:
    """Convert the estimator inside one that only trained or froze it."""
    return graph.answer(getattr(wrapper, "estimator_", wrapper.estimator), rows)


def scores_of(classifier: Any, answer: Answer) -> str:
    """Return the scores of a classifier that has `decision_function`."""
    if answer.scores is None:
        raise NoConverterError(
            f"the scores of {type(classifier).__name__} have no exact compiled form"
        )
    return answer.scores


def probabilities_of(classifier: Any, answer: Answer) -> str:
    """Return the probabilities of a classifier."""
    if answer.probabilities is None:
        raise NoConverterError(f"{type(classifier).__name__} has no probabilities")
    return answer.probabilities


def has_scores(classifier: Any) -> bool:
    """Tell whether a classifier has `decision_function`."""
    return hasattr(classifier, "decision_function")


def confidence(graph: Graph, classifier: Any, answer: Answer) -> str:
    """Return how much a classifier of two classes is for the second one, (n, 1)."""
    if has_scores(classifier):
        return scores_of(classifier, answer)
    return graph.columns(probabilities_of(classifier, answer), [1])


def _threshold(classifier: Any) -> float:
    return 0.0 if has_scores(classifier) else 0.5


def convert_one_against_rest(graph: Graph, classifier: Any, rows: str) -> Answer:
    """Convert a classifier of each class against the rest."""
    parts = classifier.estimators_
    answers = [graph.answer(part, rows) for part in parts]
    pairs = list(zip(parts, answers, strict=True))
    trust = graph.beside(*(confidence(graph, *pair) for pair in pairs))
    several = len(parts) > 1
    index = graph.highest(trust) if several else graph.above(trust, _threshold(parts[0]))
    probabilities = None
    if all(hasattr(part, "predict_proba") for part in parts):
        each = graph.beside(*(graph.columns(probabilities_of(*pair), [1]) for pair in pairs))
        shares = each if several else graph.two(each)
        probabilities = graph.shares(shares, shares)
    return Answer(index, probabilities, trust if all(map(has_scores, parts)) else None)


def convert_one_against_one(graph: Graph, classifier: Any, rows: str) -> Answer:
    """Convert a classifier of each pair of classes."""
    parts, classes = classifier.estimators_, len(classifier.classes_)
    columns = classifier.pairwise_indices_ or [range(classifier.n_features_in_)] * len(parts)
    chosen = [graph.columns(rows, each, classifier.n_features_in_) for each in columns]
    answers = [graph.answer(part, each) for part, each in zip(parts, chosen, strict=True)]
    pairs = list(zip(parts, answers, strict=True))
    trust = graph.beside(*(confidence(graph, *pair) for pair in pairs))
    second = graph.cast(_indices(graph, answers))
    sides = np.zeros((2, len(parts), classes))
    for place, (low, high) in enumerate(combinations(range(classes), 2)):
        sides[0, place, low] = sides[1, place, high] = 1.0
    sums = graph.op("MatMul", trust, sides[1] - sides[0])
    spread = graph.op("Mul", graph.op("Add", graph.op("Abs", sums), 1.0), 3.0)
    votes = graph.affine(second, sides[1] - sides[0], sides[0].sum(axis=0))
    scores = graph.op("Add", votes, graph.op("Div", sums, spread))
    if classes > 2:
        return Answer(graph.highest(scores), None, scores)
    score = graph.columns(scores, [1])
    return Answer(graph.above(score, _threshold(parts[0])), None, score)


def convert_output_code(graph: Graph, classifier: Any, rows: str) -> Answer:
    """Convert error-correcting output codes."""
    parts = classifier.estimators_
    trust = [confidence(graph, part, graph.answer(part, rows)) for part in parts]
    return Answer(nearest(graph, graph.beside(*trust), classifier.code_book_))


def _indices(graph: Graph, answers: Sequence[Answer]) -> str:
    """Return the indices of several answers side by side, int64 (n, answers)."""
    return graph.beside(*(graph.op("Unsqueeze", answer.index, np.array([1])) for answer in answers))


def _votes(
    graph: Graph,
    answers: Sequence[Answer],
    classes: int,
    votes: tuple[NDArray[np.float64], NDArray[np.float64]],
) -> str:
    """Add up what each answer gives to the class that it chose, and to the others, (n, k)."""
    indices = graph.op("Unsqueeze", _indices(graph, answers), np.array([2]))
    chosen = graph.op("Equal", indices, np.arange(classes))
    given, otherwise = (vote.astype(np.float64).reshape(-1, 1) for vote in votes)
    return graph.sum_columns(graph.op("Where", chosen, given, otherwise), keep=False)


def convert_voting(graph: Graph, classifier: Any, rows: str) -> Answer:
    """Convert votes, soft and hard."""
    parts, classes = classifier.estimators_, len(classifier.classes_)
    answers = [graph.answer(part, rows) for part in parts]
    weights = classifier._weights_not_none  # noqa: SLF001 (leaves out what was dropped)
    if classifier.voting == "hard":
        given = np.asarray(weights if weights is not None else [1.0] * len(parts))
        return Answer(graph.highest(_votes(graph, answers, classes, (given, given * 0.0))))
    each = [probabilities_of(*pair) for pair in zip(parts, answers, strict=True)]
    if weights is not None:
        pairs = zip(each, weights, strict=True)
        each = [graph.op("Mul", part, float(weight)) for part, weight in pairs]
    total = float(len(parts) if weights is None else np.sum(weights))
    probabilities = graph.op("Div", graph.total(*each), total)
    return Answer(graph.highest(probabilities), probabilities)


def convert_stacking(graph: Graph, classifier: Any, rows: str) -> Answer:
    """Convert a classifier of the answers of others."""
    columns = []
    methods = [method for method in classifier.stack_method_ if method is not None]
    for part, method in zip(classifier.estimators_, methods, strict=True):
        answer = graph.answer(part, rows)
        if method == "decision_function":
            columns.append(scores_of(part, answer))
        elif method == "predict":
            places = graph.op("Unsqueeze", answer.index, np.array([1]))
            labels = np.asarray(part.classes_, dtype=np.float64)
            columns.append(graph.op("Gather", labels, places))
        else:
            both = probabilities_of(part, answer)
            two = len(classifier.classes_) == 2
            columns.append(graph.columns(both, [1]) if two else both)
    if classifier.passthrough:
        columns.append(rows)
    return graph.answer(classifier.final_estimator_, graph.beside(*columns))


def convert_threshold(graph: Graph, classifier: Any, rows: str) -> Answer:
    """Convert a classifier of two classes with a threshold of its own."""
    inner = getattr(classifier, "estimator_", classifier.estimator)
    answer = graph.answer(inner, rows)
    by_scores = classifier.response_method == "decision_function" or (
        classifier.response_method == "auto" and not hasattr(inner, "predict_proba")
    )
    tuned = hasattr(classifier, "best_threshold_")
    label = classifier._curve_scorer._get_pos_label() if tuned else classifier.pos_label  # noqa: SLF001
    second = label is None or label == classifier.classes_[1]
    if by_scores:
        score = scores_of(inner, answer)
        score = score if second else graph.op("Neg", score)
    else:
        score = graph.columns(probabilities_of(inner, answer), [int(second)])
    limit = classifier.best_threshold_ if tuned else classifier.threshold
    if limit == "auto":
        limit = 0.0 if by_scores else 0.5
    index = graph.above(score, float(limit), "GreaterOrEqual")
    index = index if second else graph.op("Sub", np.array(1), index)
    return Answer(index, answer.probabilities, answer.scores)


def convert_bagging(graph: Graph, classifier: Any, rows: str) -> Answer:
    """Convert bagging, whose parts have columns and perhaps classes of their own."""
    if ensembles.of_trees(classifier):
        return ensembles.convert_bagged_trees(graph, classifier, rows)
    classes, width = len(classifier.classes_), classifier.n_features_in_
    parts, drawn = classifier.estimators_, classifier.estimators_features_
    if any(len(part.classes_) != classes for part in parts):
        raise NoConverterError("bagging whose parts saw fewer classes has no exact compiled form")
    chosen = [graph.columns(rows, columns, width) for columns in drawn]
    answers = [graph.answer(part, each) for part, each in zip(parts, chosen, strict=True)]
    pairs = list(zip(parts, answers, strict=True))
    if all(hasattr(part, "predict_proba") for part in parts):
        sums = graph.total(*(probabilities_of(*pair) for pair in pairs))
    else:
        one = np.ones(len(parts))
        sums = _votes(graph, answers, classes, (one, one * 0.0))
    probabilities = graph.op("Div", sums, float(len(parts)))
    scores = None
    if all(map(has_scores, parts)) and all(answer.scores for answer in answers):
        total = graph.total(*(scores_of(*pair) for pair in pairs))
        scores = graph.op("Div", total, float(len(parts)))
    return Answer(graph.highest(probabilities), probabilities, scores)


def convert_ada_boost(graph: Graph, classifier: Any, rows: str) -> Answer:
    """Convert AdaBoost."""
    if ensembles.of_trees(classifier):
        return ensembles.convert_boosted_trees(graph, classifier, rows)
    parts, classes = classifier.estimators_, len(classifier.classes_)
    if any(not np.array_equal(part.classes_, classifier.classes_) for part in parts):
        raise NoConverterError("AdaBoost whose parts saw fewer classes has no exact compiled form")
    answers = [graph.answer(part, rows) for part in parts]
    weights = classifier.estimator_weights_[: len(parts)]
    sums = _votes(graph, answers, classes, (weights, -1 / (classes - 1) * weights))
    return ensembles.ada_boost(graph, classifier, sums)
