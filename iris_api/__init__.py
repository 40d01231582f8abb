"""An HTTP service of a registered scikit-learn model; `docs/architecture.md` has the map."""

__version__ = "0.1.0"
