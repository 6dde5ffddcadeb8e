"""The data sets: `catalog` knows their facts, `places` where they lie, `load` reads them, `pipeline` feeds training."""
