"""Exports of other annotation programs, read to be trained on, tested or converted.

The readers are the package's own. Of the libraries that convert between such formats, none keeps everything: datumaro
has no Label Studio and needs older versions of OpenCV and Pillow than this package is tested with; supervision rounds
polygons to whole pixels and draws them, and reads neither CVAT nor Label Studio; globox reads boxes alone;
label-studio-sdk needs older versions of NumPy and OpenCV. What they would save is little: XML and JSON are parsed by
Python's own modules.
"""
