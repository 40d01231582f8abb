"""Reports of the service about itself: metrics, logs and traces.

Answered calls come in; counters in the workers' files, the page of `GET /metrics`, log lines and
spans go out. Knows neither requests nor responses.
"""
