"""The inverted and secondary indexes: what an index keeps for a row (it arrives in a later version)."""
