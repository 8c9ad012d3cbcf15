"""The console: one page that shows the whole system and everything about each event, and replays dead letters."""
