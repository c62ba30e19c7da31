"""From raw data to a registered, signed model: prepare, train, evaluate, register; each is one DVC stage."""
