"""Rows in, answers out: an entry of the store becomes a loaded model.

Knows neither HTTP nor metrics.
"""
