"""The half of Carpool that operators run: it pools, submits, polls, collects and delivers."""
