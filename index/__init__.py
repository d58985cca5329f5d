"""The inverted and secondary indexes: what an index keeps for a row, what is asked of it, and how it answers.

Secondary indexes: `entries.py`, `secondary.py`. The inverted index, in the order in which to read it:

1. `query.py`, `aggregation.py`, `asking.py`: what is asked, in structs that peers send each other;
   `query_string.py`, `query_dsl.py` and their like make them of what users write, `rewriting.py` plans them;
2. `mapping.py`, `analysis/`, `fields.py`: what a document holds, in which view;
3. `judging.py`, `slop.py`, `scoring.py`: what a query means for one document;
4. `naive_segments.py`: an index that looks at every document; `changing.py`: how an index is changed;
5. `encoding.py`, `preparing.py`, `finding.py`: documents and queries as an engine of postings takes them;
6. `viewing.py` with `candidates.py`, `facets.py`, `sorting.py`, `scanning.py`: ways to an answer;
7. `segments.py`: tantivy.
"""
