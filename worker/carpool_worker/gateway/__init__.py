"""The gateway: Anthropic's Messages API over HTTP, in front of the batches.

A program changes its base URL and its key, and nothing else. `routes` is the table of everything that is served,
`messages` the way of one call, `server` the process. The calls under way are in Redis (`claims`), so any number of
gateways may run side by side, and each of them may be killed at any time.
"""
