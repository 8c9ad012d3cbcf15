"""Commands that look after data: migrations, retention, the journal's groups."""
