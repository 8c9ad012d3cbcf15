"""The command ``dlq``, for operators."""
