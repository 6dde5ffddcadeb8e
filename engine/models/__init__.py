"""The networks: `catalog` knows their facts without torch, `nets` builds them."""
