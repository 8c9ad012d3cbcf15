"""The console: one page that shows the whole system and the story of each event, and replays dead letters."""
