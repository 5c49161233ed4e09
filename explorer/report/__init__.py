"""From frontier data to a page that opens offline. The only importer of plotly; needs neither torch nor ray.

Optuna computes the importances of settings.
"""
