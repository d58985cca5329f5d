"""`sullae snapshot`: backups of whole clusters in a folder, and restoring them. See folder.py."""
