"""The leaderboard: every system with several seeds on one data set, as a pipeline of its own."""
