"""``make faults``: a bank under faults, its history, and what must hold of it whatever happened."""
