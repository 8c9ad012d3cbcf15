"""The journal in a JetStream stream, shared by any number of producers."""
