"""Converters of estimators that are made of other estimators."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from iris_api.compiling.converters import ensembles
from iris_api.compiling.converters.classifiers import nearest
from iris_api.compiling.converters.graph import Answer, Graph, NoConverterError
from iris_api.compiling.converters.kernels import pair_sides, score_pairs


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


def convert_elimination(graph: Graph, selector: Any, rows: str) -> Answer:
    """Convert the classifier of the features that a selection left."""
    return graph.answer(selector.estimator_, graph.transform(selector, rows))


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


def convert_team(graph: Graph, parts: Sequence[Any], rows: str) -> Answer:
    """Convert several classifiers of the same classes; the results are (n, parts, …)."""
    together = graph.converters.teams.get(type(parts[0]))
    if together and len({_kind(part) for part in parts}) == 1:
        return together(graph, list(parts), rows)
    answers = [graph.answer(part, rows) for part in parts]
    return Answer(
        index=_together(graph, [answer.index for answer in answers], []),
        probabilities=_gather(graph, [answer.probabilities for answer in answers], len(parts)),
        scores=_gather(graph, [answer.scores for answer in answers], len(parts)),
    )


def _kind(classifier: Any) -> tuple[type, int, str]:
    """Return what classifiers have in common that are converted by one formula."""
    parameters = {**classifier.get_params(), "random_state": None}
    return type(classifier), len(classifier.classes_), repr(parameters)


def _gather(graph: Graph, results: list[str | None], parts: int) -> str | None:
    known = [result for result in results if result is not None]
    return _together(graph, known, [-1]) if len(known) == parts else None


def _together(graph: Graph, results: list[str], rest: list[int]) -> str:
    """Return results, (n, …), of several classifiers as (n, classifiers, …)."""
    columns = (
        results if rest else [graph.op("Reshape", each, np.array([-1, 1])) for each in results]
    )
    return graph.op("Reshape", graph.beside(*columns), np.array([0, len(results), *rest]))


def _confidences(graph: Graph, parts: Sequence[Any], team: Answer) -> str:
    """Return how much each classifier of two classes is for the second one, (n, parts)."""
    if all(map(has_scores, parts)):
        each = scores_of(parts[0], team)
    elif not any(map(has_scores, parts)):
        each = graph.columns(probabilities_of(parts[0], team), [1])
    else:
        raise NoConverterError("parts with scores and parts without have no exact compiled form")
    return graph.op("Squeeze", each, np.array([-1]))


def _threshold(classifier: Any) -> float:
    return 0.0 if has_scores(classifier) else 0.5


def convert_one_against_rest(graph: Graph, classifier: Any, rows: str) -> Answer:
    """Convert a classifier of each class against the rest."""
    parts = classifier.estimators_
    team = convert_team(graph, parts, rows)
    trust = _confidences(graph, parts, team)
    several = len(parts) > 1
    index = graph.highest(trust) if several else graph.above(trust, _threshold(parts[0]))
    probabilities = None
    if team.probabilities is not None:
        second = graph.columns(team.probabilities, [1])
        each = graph.op("Squeeze", second, np.array([-1]))
        shares = each if several else graph.two(each)
        probabilities = graph.shares(shares, shares)
    return Answer(index, probabilities, trust if all(map(has_scores, parts)) else None)


def convert_one_against_one(graph: Graph, classifier: Any, rows: str) -> Answer:
    """Convert a classifier of each pair of classes."""
    parts, classes = classifier.estimators_, len(classifier.classes_)
    if classifier.pairwise_indices_ is not None:
        raise NoConverterError("one against one by distances has no exact compiled form")
    team = convert_team(graph, parts, rows)
    trust = _confidences(graph, parts, team)
    scores = score_pairs(graph, trust, graph.cast(team.index), pair_sides(classes))
    if classes > 2:
        return Answer(graph.highest(scores), None, scores)
    score = graph.columns(scores, [1])
    return Answer(graph.above(score, _threshold(parts[0])), None, score)


def convert_output_code(graph: Graph, classifier: Any, rows: str) -> Answer:
    """Convert error-correcting output codes."""
    answers = [(part, graph.answer(part, rows)) for part in classifier.estimators_]
    trust = graph.beside(*(confidence(graph, *pair) for pair in answers))
    return Answer(nearest(graph, trust, classifier.code_book_))


def _votes(
    graph: Graph,
    indices: str,
    classes: int,
    votes: tuple[NDArray[np.float64], NDArray[np.float64]],
) -> str:
    """Add up what each index, (n, parts), gives to its class, and to the others, (n, k)."""
    chosen = graph.op("Equal", graph.op("Unsqueeze", indices, np.array([2])), np.arange(classes))
    given, otherwise = (vote.astype(np.float64).reshape(-1, 1) for vote in votes)
    return graph.sum_columns(graph.op("Where", chosen, given, otherwise), 1, keep=False)


def convert_voting(graph: Graph, classifier: Any, rows: str) -> Answer:
    """Convert votes, soft and hard."""
    parts, classes = classifier.estimators_, len(classifier.classes_)
    weights = classifier._weights_not_none  # noqa: SLF001 (leaves out what was dropped)
    if classifier.voting == "hard":
        given = np.asarray(weights if weights is not None else [1.0] * len(parts))
        team = convert_team(graph, parts, rows)
        return Answer(graph.highest(_votes(graph, team.index, classes, (given, given * 0.0))))
    answers = [graph.answer(part, rows) for part in parts]
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
    classes, parts = len(classifier.classes_), classifier.estimators_
    if any(len(part.classes_) != classes for part in parts):
        raise NoConverterError("bagging whose parts saw fewer classes has no exact compiled form")
    team = _bag(graph, classifier, rows)
    if all(hasattr(part, "predict_proba") for part in parts):
        sums = graph.sum_columns(probabilities_of(parts[0], team), 1, keep=False)
    else:
        one = np.ones(len(parts))
        sums = _votes(graph, team.index, classes, (one, one * 0.0))
    probabilities = graph.op("Div", sums, float(len(parts)))
    scores = None
    if team.scores is not None:
        total = graph.sum_columns(team.scores, 1, keep=False)
        scores = graph.op("Div", total, float(len(parts)))
    return Answer(graph.highest(probabilities), probabilities, scores)


def _bag(graph: Graph, classifier: Any, rows: str) -> Answer:
    """Convert the parts of a bagging, each of which may have columns of its own."""
    every = np.arange(classifier.n_features_in_)
    if all(np.array_equal(drawn, every) for drawn in classifier.estimators_features_):
        return convert_team(graph, classifier.estimators_, rows)
    raise NoConverterError("bagging of parts of the features is compiled for decision trees alone")


def convert_ada_boost(graph: Graph, classifier: Any, rows: str) -> Answer:
    """Convert AdaBoost."""
    if ensembles.of_trees(classifier):
        return ensembles.convert_boosted_trees(graph, classifier, rows)
    parts, classes = classifier.estimators_, len(classifier.classes_)
    if any(not np.array_equal(part.classes_, classifier.classes_) for part in parts):
        raise NoConverterError("AdaBoost whose parts saw fewer classes has no exact compiled form")
    team = convert_team(graph, parts, rows)
    weights = classifier.estimator_weights_[: len(parts)]
    sums = _votes(graph, team.index, classes, (weights, -1 / (classes - 1) * weights))
    return ensembles.ada_boost(graph, classifier, sums)
