"""1. The inbox: entries that producers have appended are read and checked; those that can't be read are quarantined."""
