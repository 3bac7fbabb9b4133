"""2. Batching: requests go into the open batch of their lane, and leave it again if they are canceled."""
