"""The vetting of a model, which is opened without running any code that it brings.

A model directory goes in; a `Vetted` model or a `VettingError` comes out (`estimator.vet`).
Knows neither MLflow nor the store.
"""
