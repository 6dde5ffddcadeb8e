"""The Python API: `engine.open` reads the results of a database, and `ticket_export` writes tickets to files.

It may import all other packages of the engine; `import engine` alone does not import it.
"""
