"""The rollout of the version in production: fetch, check, load, swap."""
