"""Detectors: backbones, Mask R-CNN and Cascade Mask R-CNN heads, BlendMask."""
