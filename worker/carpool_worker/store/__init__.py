"""The only modules that write SQL."""
