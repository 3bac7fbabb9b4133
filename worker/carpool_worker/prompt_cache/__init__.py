"""Anthropic's prompt cache: what requests share, what marking it saves. Pure."""
