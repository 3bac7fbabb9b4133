"""Carpool: single Claude requests, pooled into Message Batches at half the price."""
