"""What an operator does: cancel, retry, replay, purge, flush, pause."""
