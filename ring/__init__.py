"""Where data lives: tokens, the peers that replicate them, and the tokens a joining peer is given."""
