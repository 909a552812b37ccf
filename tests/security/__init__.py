"""What clients, models, members and unknown peers send to do harm: each subject in one file."""
