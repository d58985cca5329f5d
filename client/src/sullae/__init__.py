"""The client library of Sullae.

This version holds its name and number only; the library itself arrives in a later one. Until then every peer
speaks plain HTTP: see `/docs` on any of them.
"""

__all__ = ["__version__"]

__version__ = "0.1.0"
