"""A schedule in production training. Needs no ray."""
