"""The Open Inference Protocol, V2 over REST, with the extension for binary tensors.

A body of tensors becomes rows, and an answer becomes tensors. `messages` describes both to clients,
and needs no numpy.
"""
