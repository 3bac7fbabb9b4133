"""Requests in SQL."""
