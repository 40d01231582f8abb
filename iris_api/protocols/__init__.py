"""The protocols: the body of a request becomes rows, and a model's answer becomes a body.

A body that breaks the protocol is an `InvalidRequestError`, which names each wrong place. Nothing
here knows HTTP's connections, metrics or the model store.
"""
