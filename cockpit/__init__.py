"""The cockpit: a command line over the engine. It talks to the store and knows nothing of training."""
