"""The Celery tasks: thin."""
