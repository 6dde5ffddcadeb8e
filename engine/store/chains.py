"""SQL that recognises a chain: its tickets are trained on the data set and with the optimizer that found them."""

# Whether the runs of a curve `c` are those of a chain.
IS_CHAIN = "(c.ticket = 'winning' AND c.source = c.target AND c.source_optimizer = c.optimizer)"
# Whether a run is one of a chain, so that its final weights give the chain's next mask.
IS_LINK = (
    "(ticket = 'winning' AND level > 0 AND source_dataset = target_dataset AND source_optimizer = optimizer AND"
    " json_extract(recipe, '$.training.data_seed') IS json_extract(recipe, '$.ticket.chain.training.data_seed'))"
)
