"""Feeds that are shipped: profiles, and classes for what a profile cannot say."""
