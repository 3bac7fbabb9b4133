"""The programs that `carpool` runs."""
