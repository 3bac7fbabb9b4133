"""Prometheus metrics from SQL and Redis. No process keeps counters, so they are right however many processes run."""
