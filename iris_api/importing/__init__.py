"""The import: registry -> vetting -> compiling -> store.

A model URI goes in; the tag of the active entry comes out. Here are the pipeline, its sources, the
watch that repeats it, the child process in which both do their work, and the command line with its
commands promote and rollback. The service only asks it to import at the start.
"""
