"""What is asked of a computer: what it has, how fast it is, what is compiled."""
