"""The compilation of an estimator to ONNX, with a proof that both answer the same.

A `Vetted` model goes in; a `Compiled` one or the reason why not comes out
(`conversion.compile_model`). Knows neither the registry nor HTTP.
"""
