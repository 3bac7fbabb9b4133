"""5. Delivery: answers reach their callbacks."""
