"""Lightning callbacks: refinement and its scores, figures, progress, averaged weights."""
