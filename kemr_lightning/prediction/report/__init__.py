"""``report.html``: one page about a prediction, with its pictures, outlines, counts and errors inside it.

The page needs no server and no network. Nothing that comes from a data set is markup: it is one block of JSON with
every ``<`` escaped, and pictures in base64; the page's own script inserts names as text.
"""

from kemr_lightning.prediction.report.report_page import ReportImage, write_report

__all__ = ["ReportImage", "write_report"]
