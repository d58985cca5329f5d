"""JSON documents as rows: collections, exact values, and what each operation writes."""
