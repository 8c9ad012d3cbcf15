"""Workers as experts write them by hand for throughput, each a program of its own. They import nothing else of ours.

All of them read from a source that is faster than one row at a time, and insert many rows with one statement.
"""
