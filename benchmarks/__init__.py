"""What is compared: pairs, tiers, published figures and the generated data set."""
