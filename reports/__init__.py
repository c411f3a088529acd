"""What was found: records, statistics, tables and figures."""
