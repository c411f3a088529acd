"""What authors released: files found and verified, logs read, and the evidence that follows for each reported result."""
