"""`sullae shell`: CQL at a terminal and in scripts.

Where things are: `options` what the command was asked for, `app` the way in; `shell` runs statements,
`commands` are the shell's own; `prompting`, `completion`, `highlight` are the terminal; `schema` is what is
known of keyspaces and tables; `formatting` and `tables` print rows, `errors` what went wrong, `tracing` a
timeline; `copying*` are COPY FROM and TO.
"""
