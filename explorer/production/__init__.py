"""Schedules in production training. Does not need ray."""
