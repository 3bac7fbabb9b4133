"""What an operator sees, as typed values, for terminals, consoles and programs."""
