"""The leaderboard: Streamlit pages on the store's snapshots. Reads through ``harness.store``."""
