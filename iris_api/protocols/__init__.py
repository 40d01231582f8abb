"""One file a protocol: a body becomes rows, an answer becomes a body. Knows no server."""
