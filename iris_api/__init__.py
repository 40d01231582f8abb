"""From a registered scikit-learn model to an HTTP service; `docs/architecture.md` has the map."""

__version__ = "0.1.0"
