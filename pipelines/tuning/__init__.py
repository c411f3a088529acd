"""The search for a method's hyper-parameters: one study a pair and method, one process a trial."""
