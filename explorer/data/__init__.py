"""Data sources behind one protocol."""
