"""The data sets: `catalog` knows their facts without torch or numpy, `load` reads them, `pipeline` feeds training."""
