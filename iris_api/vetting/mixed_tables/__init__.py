"""Estimators of mixed tables: texts, booleans and numbers, by the names of their columns.

A fitted estimator goes in. Two objects that answer rows of numbers as it does come out: one makes
data frames of the rows (`frames.answer_rows`), the other consists of parts that take numbers alone
(`numeric_form.make_numeric`). Must not know signatures, profiles or ONNX.
"""
