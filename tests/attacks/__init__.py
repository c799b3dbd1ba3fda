"""Attacks on running projects: nothing that was acknowledged is lost, or handled twice."""
