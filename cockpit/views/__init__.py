"""Results as something to look at: charts, figures, tables, cells and files. The command line and the dashboard show
the same.

A view is given rows and says how they look; it asks for nothing and changes nothing.
"""
