"""REST over HTTP/1.1: keys and values, buckets, health, metrics, and what an operator asks."""
