"""1. The inbox: what producers sent is read, checked, or set apart."""
