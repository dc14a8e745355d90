"""What a computer has, how fast it is, and which kernels are compiled on it."""
