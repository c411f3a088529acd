"""Cost of a grid before anything of it runs: run lengths, throughput, remaining work, and the estimate as text."""
