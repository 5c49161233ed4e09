"""A module of a user's that cannot be imported."""

raise RuntimeError("the user's own error\nin two lines")
