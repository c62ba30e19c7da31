"""From messages to rows: the consumer, parsing, the transaction."""
