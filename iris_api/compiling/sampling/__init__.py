"""Rows that tell a compiled model from the estimator it was made of.

A fitted classifier and the domain of its rows go in; the rows of the proof come out
(`rows.sample_rows`). Knows no ONNX, and asks the estimator alone.
"""
