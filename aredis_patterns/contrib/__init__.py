"""Glue for web frameworks: one leaf file each. They translate, and decide nothing."""
