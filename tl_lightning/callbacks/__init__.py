"""What watches and steers the learner from outside."""
