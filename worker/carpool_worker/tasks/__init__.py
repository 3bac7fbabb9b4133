"""The Celery tasks, which are thin: the agents do the work."""
