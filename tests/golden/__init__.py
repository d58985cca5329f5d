"""Golden scripts: what a cluster does, told by commands with their recorded output below them."""
