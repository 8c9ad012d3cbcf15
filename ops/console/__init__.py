"""The console: one page that shows the whole system, tells the story of each event, and replays dead letters."""
