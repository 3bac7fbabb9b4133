"""The client of Anthropic's API. Only `client.py` imports anthropic."""
