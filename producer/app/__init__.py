"""The producer as a program: settings, the daemon, HTTP, the page."""
