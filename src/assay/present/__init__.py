"""Reports: Records and a Verdict as text.  Everything here is pure and computes nothing.

A format is a function ``render(report: Report) -> str``; add one file and one line.
"""

FORMATS = {
    "markdown": "assay.present.markdown:render",
    "csv": "assay.present.csv:render",
    "html": "assay.present.html:render",
}
"""Report formats, by the name a user types; the file is ``report`` with the suffix in ``SUFFIXES``."""

SUFFIXES = {"markdown": ".md", "csv": ".csv", "html": ".html"}
