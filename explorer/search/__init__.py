"""Which trial comes next: proposals, Optuna studies, and work that trials share. No ray."""
