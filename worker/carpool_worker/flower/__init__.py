"""Batches as rows in Flower."""
