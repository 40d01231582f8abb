"""Everything that reaches into the internals of BentoML, uvicorn and circus, one patch a file.

In: BentoML's service, its uvicorn server and its circus watcher. Out: functions that `service.py`
calls at the start, and the class of its service. It must not know what a prediction is.

`compat` checks each name that is used; `pyproject.toml` pins the packages. `benchmarks/ABLATION.md`
has the numbers.
"""
