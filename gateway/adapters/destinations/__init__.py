"""Outside systems that receive batches, one module each."""
