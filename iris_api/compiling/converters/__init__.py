"""Converters to ONNX that compute as scikit-learn does: in float64, in the same order.

A fitted estimator goes in; an ONNX model comes out, or a sentence that says why there is none
(`lookup.convert`). Each module ends with the tables of the types that it converts. Knows no
proof: whether the answers are the same is for others to find out.
"""
