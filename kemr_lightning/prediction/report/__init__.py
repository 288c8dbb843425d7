"""``report.html``: one page about a prediction, with its pictures, outlines, counts and errors inside it.

The page needs no server and no network. Nothing of a data set enters it as markup: what varies is one block of JSON,
whose ``<`` are escaped, and pictures in base64; the page's own script puts names in as text.
"""

from kemr_lightning.prediction.report.write import ReportImage, write_report

__all__ = ["ReportImage", "write_report"]
