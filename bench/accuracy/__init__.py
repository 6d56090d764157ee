"""Word errors on recordings of people, next to faster-whisper's on the same files."""
