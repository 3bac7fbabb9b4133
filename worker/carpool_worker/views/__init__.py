"""What an operator sees: facts for terminals, consoles and programs."""
