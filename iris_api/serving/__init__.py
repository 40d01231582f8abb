"""HTTP: a request comes in, the answer of the worker's current model goes out.

Handlers, admission control, API keys, the hot swap of models, the GET routes, their document and
the pages.
Knows neither the registry nor the import; models come from the BentoML store.
"""
