"""The listener as a program: settings, wiring, the daemon, and the engine that replays use too."""
