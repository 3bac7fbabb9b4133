"""Files of requests and of results, a JSON object a line: `carpool enqueue -f` and `carpool results -o`."""
