"""Figures of merit: COCO AP over RLE and Instance Accuracy, matching and error kinds, paired bootstrap."""
