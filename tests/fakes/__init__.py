"""Stages that do no learning, for tests of the graph and of the back ends."""
