"""Change streams: events of what the log has, cursors, and the forms in which events leave."""
