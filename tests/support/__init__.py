"""Helpers of the tests: real servers, models, proxies and readers."""
