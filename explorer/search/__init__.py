"""Which trial comes next: proposals, Optuna studies, and the dispatcher that lets trials share training. No ray."""
