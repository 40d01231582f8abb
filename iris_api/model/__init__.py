"""Rows in, answers out: a loaded entry of the store. Knows neither HTTP nor metrics."""
