"""A mapping as a rewriter asks it (index/rewriting.py)."""

from __future__ import annotations

from collections.abc import Sequence

from index.analysis.analyzers import Analyzer
from index.analysis.tokens import Token
from index.globs import fits, parts_of
from index.mapping import Rules
from index.query import TEXT


class MappedFields:
    """The fields of one index by its rules."""

    def __init__(self, rules: Rules) -> None:
        self._rules = rules

    def query_tokens(self, field: str, text: str, analyzer: str) -> Sequence[Token] | None:
        """What to search for of a text; None if the analyzer named does not exist."""
        if not analyzer:
            return self._rules.field(field).search_analyzer.query_tokens(text)
        named = self._rules.analyzer(analyzer)
        return named.query_tokens(text) if isinstance(named, Analyzer) else None

    def views(self, field: str) -> tuple[str, ...]:
        """The views that values of this field may have."""
        return self._rules.field(field).views

    def boost(self, field: str) -> float:
        """What the mapping multiplies scores of matches in this field by."""
        return self._rules.field(field).boost

    def names(self, pattern: str) -> tuple[str, ...]:
        """Declared fields with text whose names fit a pattern with `*`."""
        parts = parts_of(pattern, plain=True)
        named = [name for name in self._rules.named() if TEXT in self.views(name)]
        return tuple(name for name in named if fits(parts, name))
