"""Requests of a user from either front end: options, experiment files, completion, additions to the queue,
background workers. The command line and the dashboard both use it.
"""
