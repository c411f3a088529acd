"""What ``pipelines/bench.py`` is made of: made-up batches, training steps in processes of their own, results and table."""
