"""Forms of the leaderboard: Markdown, HTML, PDF, CSV, model cards."""
