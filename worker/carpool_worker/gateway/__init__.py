"""The gateway: the HTTP API that every Anthropic client can use with nothing changed but its base URL and its key."""
