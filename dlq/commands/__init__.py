"""The command ``dlq``: what an operator does with dead letters."""
