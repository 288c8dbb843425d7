"""Sweeps (``python run.py -m ...``): jobs that can be resumed, their table, heat maps and best job."""
