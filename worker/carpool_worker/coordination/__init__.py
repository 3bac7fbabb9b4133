"""How processes get on with each other through Redis: locks, heartbeats, queue depths."""
