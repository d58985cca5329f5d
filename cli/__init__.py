"""The `sullae` command."""
