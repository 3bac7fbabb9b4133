"""The operator's commands: options, questions and tables. What they need is imported when they run."""
