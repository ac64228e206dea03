"""What things are: requests, jobs, policies, messages. Pure values."""
