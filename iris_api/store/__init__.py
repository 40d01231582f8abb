"""The hand-over: entries of the BentoML model store, and which one is active.

Knows neither the registry nor the service.
"""
