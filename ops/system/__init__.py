"""The whole system on one machine: real servers from wheels, as children of one process."""
