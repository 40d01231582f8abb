"""Estimators of mixed tables: texts, booleans and numbers, by the names of their columns.

A fitted estimator goes in; what answers rows of numbers as it does comes out, once with data frames
(`frames.answer_rows`) and once made of parts that take numbers alone (`numeric_form.make_numeric`).
Must not know signatures, profiles or ONNX.
"""
