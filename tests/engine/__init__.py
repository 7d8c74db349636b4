"""Tests of the processor, its journals and gateways."""
