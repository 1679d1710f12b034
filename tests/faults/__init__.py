"""Faults on purpose: ``make chaos`` interrupts and damages runs, and compares what they end with.

Everything here goes through the command line and the files that it leaves, as a user would see it.
"""
