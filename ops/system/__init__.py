"""The whole system on one machine: real servers installed from wheels, as children of one process."""
