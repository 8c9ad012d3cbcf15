"""From a request to durable places in the journal, and the answers."""
