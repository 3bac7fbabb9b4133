"""2. Batching: requests go into the open batch of their lane, and come out of it again when canceled."""
