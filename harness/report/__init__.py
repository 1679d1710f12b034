"""A written finding of a matrix, made from the store alone: see :mod:`harness.report.document`.

Each section is a function from :class:`harness.report.facts.Facts` to Markdown, "" where the store
holds nothing for it.
"""
