"""Tests of the sample upload."""
