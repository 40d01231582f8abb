"""Everything that reaches into BentoML, uvicorn or circus."""
