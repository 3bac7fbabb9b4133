"""Clients' batches in SQL: their rows, and the counts of their requests."""
