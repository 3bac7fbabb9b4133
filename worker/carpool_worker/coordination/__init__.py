"""How processes coordinate through Redis: connections, locks, beat's heartbeat, queue depths, and the keys."""
