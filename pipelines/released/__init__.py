"""Files that authors released: found and verified, students evaluated, tokens taken over, logs read."""
