"""From raw data to a registered, signed model: prepare, check, train, evaluate, register; each is one DVC stage."""
