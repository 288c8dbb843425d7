"""COCO folders, read and written: images and one JSON for each part; polygons, run-length encoding, or boxes only."""
