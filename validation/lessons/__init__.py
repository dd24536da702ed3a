"""What `validation.learning` runs: problems of known regret, and every way to learn them."""
