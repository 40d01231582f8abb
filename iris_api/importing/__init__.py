"""The pipeline from a model URI to the active entry of the store.

registry -> vetting -> compiling -> store, the watch that repeats it, and the command line.
"""
