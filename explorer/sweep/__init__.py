"""Many budgeted trainings: search space, Optuna, Ray Tune. Only this folder imports ray and optuna."""
