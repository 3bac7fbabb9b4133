"""Batches as rows in Flower, which shows Celery tasks: what a row says, and the events that carry it there."""
