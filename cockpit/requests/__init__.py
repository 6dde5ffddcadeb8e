"""What a person asked for, from whichever front end: options, experiment files, completion, what joins the queue,
workers in the background. The command line and the dashboard both stand on it.
"""
