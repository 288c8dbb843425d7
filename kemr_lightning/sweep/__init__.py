"""Sweeps (``python run.py -m ...``): jobs that can be taken up again, their table, heat maps and best job."""
