"""What models cost, what answers cost, and what requests may cost. Pure."""
