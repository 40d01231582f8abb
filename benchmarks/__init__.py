"""This service and its peers, side by side."""
