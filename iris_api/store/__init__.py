"""The hand-over: an import writes entries of BentoML's model store, and the service reads them.

Staged files and typed metadata go in, verified entries and the active version come out. Knows
neither the registry nor the service.
"""
