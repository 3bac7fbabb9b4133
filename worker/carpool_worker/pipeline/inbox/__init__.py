"""1. The inbox: what producers have sent is read and checked; what can't be read is quarantined."""
