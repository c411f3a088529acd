"""x."""
def pictures(board, samples):
    return []
