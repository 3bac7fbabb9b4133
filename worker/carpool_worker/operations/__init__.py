"""What an operator does: cancel, retry, replay, purge; lanes, endpoints and the quarantine.

Each operation takes an `actor`, a text that names the person or program behind it ("cli:ada"), and logs it with what
was done. Operations take and return values; they ask and print nothing.
"""
