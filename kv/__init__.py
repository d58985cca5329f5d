"""Key-value buckets: operations on the tables of keyspace `kv`."""
