"""Whether a compiled model is the same: an estimator becomes ONNX, with a proof.

A `Vetted` model goes in; a `Compiled` one or the reason why not comes out
(`conversion.compile_model`). Knows neither the registry nor HTTP.
"""
