"""Image files, annotation formats, data sets, splits and augmentation."""
