"""Chapter 1: filtering."""
