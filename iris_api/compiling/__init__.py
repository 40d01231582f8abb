"""Whether the compiled model is the same: an estimator becomes ONNX, with a proof.

An estimator goes in; a `Compiled` model or the reason why not comes out. Knows no store.
"""
