"""Results: records, statistics, tables and figures."""
