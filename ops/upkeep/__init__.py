"""Commands for the upkeep of data: migrations, retention, the journal's groups."""
