"""``task=predict``: from a folder of images to outlines, crops, tables and a report that a person works on."""
