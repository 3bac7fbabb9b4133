"""3. Submission: a sealed batch is posted once, whatever becomes of the answer."""
