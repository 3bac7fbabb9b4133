"""Batches in SQL."""
