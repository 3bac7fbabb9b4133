"""Deliveries in SQL."""
