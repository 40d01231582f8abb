"""Rows that distinguish a compiled model from the estimator it was made of.

A fitted estimator and the domain of its rows go in; the rows of the proof come out
(`rows.sample_rows`). It must not know ONNX, and calls the estimator alone.
"""
