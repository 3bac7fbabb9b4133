"""The operator's commands, one module each; they import what they need when they run: `--help` answers at once."""
