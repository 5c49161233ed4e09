"""From frontier data to a page that opens offline. The only package that imports plotly; needs neither torch nor ray.

Optuna computes the importances of settings. Panels are listed in `explorer.report.panels`.
"""
