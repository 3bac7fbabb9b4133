"""Prices, costs and estimates. Pure."""
