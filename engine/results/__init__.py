"""The engine's door for Python: `engine.open` gives the results of a database, and tickets are written to files to
take away.

It stands on all other rooms; `import engine` alone imports none of it.
"""
