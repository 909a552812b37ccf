"""What somebody writes who is asked to add a face that answers in plain text."""
