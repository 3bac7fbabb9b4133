"""The Celery tasks: thin, as the agents do the work."""
