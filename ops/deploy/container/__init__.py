"""What only containers need: a first password, and a question about health without curl."""
