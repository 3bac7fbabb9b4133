"""What operators ask of the tables. Read only."""
