"""The client of Anthropic's API, and the parts of its answers. Only `client.py` imports anthropic."""
