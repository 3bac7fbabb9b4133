"""Logs and traces; any room may use them."""
