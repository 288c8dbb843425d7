"""The files a run leaves: COCO results, metrics, tables, figures."""
