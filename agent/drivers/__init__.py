"""Hypervisors that the agent can drive."""
