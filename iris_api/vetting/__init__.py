"""Whether the model may be opened, without running any code that it brings.

A model directory goes in; a fitted estimator comes out. Knows neither MLflow nor the store.
"""
