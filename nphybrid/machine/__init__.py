"""Describe this computer, measure its speed, and compile the kernels."""
