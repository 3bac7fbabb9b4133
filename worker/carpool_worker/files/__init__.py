"""Files of requests and of results, a JSON object a line."""
