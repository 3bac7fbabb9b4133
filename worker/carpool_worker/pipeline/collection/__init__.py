"""4. Collection: batches are polled, and their results become answers."""
