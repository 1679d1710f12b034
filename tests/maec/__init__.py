"""Tests of the method, mirrored file by file."""
