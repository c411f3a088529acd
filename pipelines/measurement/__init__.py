"""Speed and memory of training steps of published models on dummy batches, one subprocess per measurement."""
