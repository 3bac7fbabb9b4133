"""3. Submission: a sealed batch is posted exactly once, even if the answer is lost."""
