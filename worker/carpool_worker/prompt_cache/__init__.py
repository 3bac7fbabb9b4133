"""Anthropic's prompt cache: the prefixes that requests share, and what marking them saves. Pure."""
