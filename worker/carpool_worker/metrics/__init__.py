"""Prometheus metrics out of SQL and Redis, right whatever number of processes runs: none of them counts by itself."""
