"""The instructor's batch: notebooks over a grid of profiles, seeds and parameters."""
