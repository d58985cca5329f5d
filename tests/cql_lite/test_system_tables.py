"""System tables have the columns that drivers and tools ask for by name."""

from __future__ import annotations

import pytest

from cql_lite.system import TABLES
from tests.cql_lite.whole import Cql, cluster_of

OPTIONS = (
    "bloom_filter_fp_chance, caching, comment, compaction, compression, crc_check_chance, "
    "dclocal_read_repair_chance, default_time_to_live, extensions, gc_grace_seconds, id, max_index_interval, "
    "memtable_flush_period_in_ms, min_index_interval, read_repair_chance, speculative_retry"
)
ASKED = [
    ("keyspaces", "durable_writes, replication"),
    ("tables", f"table_name, flags, cdc, additional_write_policy, read_repair, {OPTIONS}"),
    ("columns", "table_name, column_name, clustering_order, type, kind, position"),
    ("types", "type_name, field_names, field_types"),
    ("indexes", "table_name, index_name, kind, options"),
    ("views", f"view_name, base_table_id, base_table_name, include_all_columns, where_clause, {OPTIONS}"),
    (
        "functions",
        "function_name, argument_types, argument_names, body, called_on_null_input, language, return_type",
    ),
    (
        "aggregates",
        "aggregate_name, argument_types, final_func, initcond, state_func, state_type, return_type",
    ),
    ("triggers", "table_name, trigger_name, options"),
]


@pytest.fixture(scope="module")
def client() -> Cql:
    return Cql(cluster_of(1))


@pytest.mark.parametrize(("table", "columns"), ASKED)
def test_schema_tables_are_asked_for_every_column(client: Cql, table: str, columns: str) -> None:
    """gocql asks so for views that there are none of, and takes an error for a keyspace that is not there."""
    client.run(f"SELECT {columns} FROM system_schema.{table} WHERE keyspace_name = 'ks'")


def test_views_have_the_options_of_tables() -> None:
    tables, views = (
        {column.name for column in TABLES["system_schema", name].table.columns}
        for name in ("tables", "views")
    )
    assert tables - views == {"table_name", "flags"}
