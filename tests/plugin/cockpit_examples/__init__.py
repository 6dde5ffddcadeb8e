"""One plug-in of each kind: the examples of docs/extending.md."""
