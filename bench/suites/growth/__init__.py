"""How speed and cost grow with what there is: rows, backlog, replicas, features, patients in one call."""
