"""The console: pages that show how everything stands, and what to do about it, over views and operations."""
