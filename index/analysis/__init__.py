"""Text to terms: pure functions, the same for indexing, for searching and for the `_analyze` endpoint.

words.py, cjk.py, korean.py split text; stemming.py and terms.py (stop words, synonyms) change what came out;
analyzers.py puts them together by name and settings.
"""
