"""Results as charts, figures, tables, cells and files, for both the command line and the dashboard.

A view is a function from rows to their display: it reads no database and changes nothing.
"""
