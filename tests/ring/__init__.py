"""Tests of ring/."""
