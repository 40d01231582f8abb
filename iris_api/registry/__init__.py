"""The registry of models: MLflow's REST API and artifact proxy over HTTP.

A model URI goes in; one `ModelVersion` and its files come out. Knows nothing of the store.
"""
