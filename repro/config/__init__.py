"""One run as frozen data: from words to checked settings."""
