"""4. Collection: batches at Anthropic are polled, and their results become answers."""
