"""The way of a request: inbox, batching, submission, collection, delivery."""
