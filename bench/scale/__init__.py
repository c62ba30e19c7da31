"""How far the system goes beyond one machine: a queueing model of it from what its parts were measured to cost."""
