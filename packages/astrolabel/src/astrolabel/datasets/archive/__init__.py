"""Download survey files: HTTP with credentials, retries and resume."""
