"""Sources, and the reader that keeps one open: it reconnects, resumes and pauses."""
