"""Text in and out: words for states, control characters, the standard streams, commands in messages, Rich's console,
and TOML files.

It knows nothing of experiments or the store.
"""
