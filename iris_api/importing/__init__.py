"""The import: registry -> vetting -> compiling -> store.

A model URI goes in; the tag of the active entry comes out. Here are the pipeline, the watch that
repeats it, the child process in which both do their work, and the command line. Knows nothing of
HTTP servers; the service only asks it to import at the start.
"""
