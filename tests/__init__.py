"""Tests of Sullae; the folders below mirror the packages."""
