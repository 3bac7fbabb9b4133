"""What an operator does: cancel, retry, replay, purge; lanes, endpoints and the quarantine.

Each operation takes its `actor`, a text that names who asks ("cli:ada"), and logs it with what was done; values go in
and come out, and nothing is asked or printed.
"""
