"""What a user of Stoker holds: the supervisor behind `make up`; imports none of the other packages."""
