"""What is frozen is computed once: the stages below a plan's boundary, cached, or on a faster engine."""
