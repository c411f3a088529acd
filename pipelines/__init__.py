"""How it is run: one module per DVC stage."""
