"""What other people's clients ask for and how they are answered: functions that the front end and batches share."""
