"""What tells a chain, in SQL: its tickets are trained where they were found, by how they were found."""

# Of a curve `c`, whose runs are then the links of a chain.
IS_CHAIN = "(c.ticket = 'winning' AND c.source = c.target AND c.source_optimizer = c.optimizer)"
# Of a run, whose final weights then give the chain's next mask.
IS_LINK = (
    "(ticket = 'winning' AND level > 0 AND source_dataset = target_dataset AND source_optimizer = optimizer AND"
    " json_extract(recipe, '$.training.data_seed') IS json_extract(recipe, '$.ticket.chain.training.data_seed'))"
)
