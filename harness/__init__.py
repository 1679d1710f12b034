"""The matrix: models × abilities × languages, planned, run, scored and stored.

``spec`` reads a matrix file, ``plan`` turns it into steps and cells, ``run`` does what is missing,
``store`` keeps the scores, ``table`` shows them. The method itself lives in :mod:`maec`.
"""
