"""How rows are kept: ordered keys, cells in normal form, engines, and the store that works on them."""
